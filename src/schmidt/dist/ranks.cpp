#include "schmidt/dist/ranks.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include <c10/util/Exception.h>

#ifdef SCHMIDT_MPI
#include <mpi.h>
#endif

namespace schmidt::dist {
namespace {

/// Whether a launcher of Open MPI, of MPICH or Slurm, or one that speaks PMIx, started
/// this process.
bool launched() {
  constexpr const char* kVariables[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"};
  return std::ranges::any_of(kVariables,
                             [](const char* name) { return std::getenv(name) != nullptr; });
}

#ifdef SCHMIDT_MPI

bool& started() {
  static bool value = false;
  return value;
}

/// Starts MPI at the first call. False: this process is alone.
bool together() {
  static const bool value = [] {
    if (!launched()) return false;
    int provided = 0;
    TORCH_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided) == MPI_SUCCESS,
                "[dist] MPI did not start");
    started() = true;
    return true;
  }();
  return value;
}

#else

bool together() {
  TORCH_CHECK_VALUE(!launched(),
                    "[dist] expected a build with MPI under mpirun, got one without it");
  return false;
}

#endif

}  // namespace

#ifdef SCHMIDT_MPI

// Errors of MPI calls end all ranks by MPI's own default handler.

int64_t rank() {
  int value = 0;
  if (together()) MPI_Comm_rank(MPI_COMM_WORLD, &value);
  return value;
}

int64_t size() {
  int value = 1;
  if (together()) MPI_Comm_size(MPI_COMM_WORLD, &value);
  return value;
}

void barrier() {
  if (together()) MPI_Barrier(MPI_COMM_WORLD);
}

std::string broadcast(const std::string& text) {
  if (!together()) return text;
  std::string received = text;
  auto bytes = static_cast<int64_t>(text.size());
  MPI_Bcast(&bytes, 1, MPI_INT64_T, 0, MPI_COMM_WORLD);
  received.resize(static_cast<size_t>(bytes));
  MPI_Bcast(received.data(), static_cast<int>(bytes), MPI_CHAR, 0, MPI_COMM_WORLD);
  return received;
}

std::vector<std::string> gather(const std::string& text) {
  if (!together()) return {text};
  const auto ranks = static_cast<size_t>(size());
  const int bytes = static_cast<int>(text.size());
  std::vector<int> counts(ranks), offsets(ranks);
  MPI_Allgather(&bytes, 1, MPI_INT, counts.data(), 1, MPI_INT, MPI_COMM_WORLD);
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  std::string all(static_cast<size_t>(offsets.back() + counts.back()), '\0');
  MPI_Allgatherv(text.data(), bytes, MPI_CHAR, all.data(), counts.data(), offsets.data(), MPI_CHAR,
                 MPI_COMM_WORLD);
  std::vector<std::string> texts;
  for (size_t r = 0; r < ranks; ++r) {
    texts.push_back(all.substr(static_cast<size_t>(offsets[r]), static_cast<size_t>(counts[r])));
  }
  return texts;
}

void finalize() {
  if (started()) MPI_Finalize();
  started() = false;
}

void abort(int code) {
  if (started() && size() > 1) MPI_Abort(MPI_COMM_WORLD, code);
}

#else

int64_t rank() {
  together();
  return 0;
}

int64_t size() {
  together();
  return 1;
}

void barrier() { together(); }

std::string broadcast(const std::string& text) {
  together();
  return text;
}

std::vector<std::string> gather(const std::string& text) {
  together();
  return {text};
}

void finalize() {}

void abort(int) {}

#endif

}  // namespace schmidt::dist
