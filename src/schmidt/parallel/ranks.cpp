#include "schmidt/parallel/ranks.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <numeric>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <unistd.h>

#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/mpi_calls.h"
#include "schmidt/parallel/pause.h"

namespace schmidt::parallel {
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

// Starts a collective by `start` and waits for it, asleep between two looks.
template <typename Start>
void complete(const char* what, const Start& start) {
  MPI_Request request;
  {
    const std::lock_guard lock(mpi_mutex());
    check_mpi(start(&request), what);
  }
  for (Pause pause;; pause()) {
    const std::lock_guard lock(mpi_mutex());
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), what);
    if (done != 0) return;
  }
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

std::mutex& mpi_mutex() {
  static std::mutex mutex;
  return mutex;
}

bool together() {
  static const bool value = [] {
    if (!launched()) return false;
    int provided = MPI_THREAD_SINGLE;
    TORCH_CHECK(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) == MPI_SUCCESS,
                "[dist] MPI did not start");
    TORCH_CHECK_VALUE(provided >= MPI_THREAD_SERIALIZED,
                      "[dist] expected an MPI whose calls may come from any thread "
                      "(MPI_THREAD_SERIALIZED), got level ",
                      provided);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    started() = true;
    return true;
  }();
  return value;
}

void check_mpi(int code, const char* what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw LostRank(fmt::format("another rank is out of reach ({}): {}", what, text.data()));
}

std::string mpi_library() {
  std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> text{};
  int length = 0;
  MPI_Get_library_version(text.data(), &length);  // one of the few calls before MPI_Init
  const std::string all(text.data());
  return all.substr(0, all.find_first_of(",\n"));  // what follows says how it was built
}

int64_t rank() {
  static const int value = [] {
    int r = 0;
    if (!together()) return r;
    const std::lock_guard lock(mpi_mutex());
    MPI_Comm_rank(MPI_COMM_WORLD, &r);
    return r;
  }();
  return value;
}

int64_t size() {
  static const int value = [] {
    int n = 1;
    if (!together()) return n;
    const std::lock_guard lock(mpi_mutex());
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    return n;
  }();
  return value;
}

void barrier() {
  if (!together()) return;
  complete("barrier", [](MPI_Request* request) { return MPI_Ibarrier(MPI_COMM_WORLD, request); });
}

std::string broadcast(const std::string& text) {
  if (!together()) return text;
  std::string received = text;
  auto bytes = static_cast<int64_t>(text.size());
  complete("broadcast", [&](MPI_Request* request) {
    return MPI_Ibcast(&bytes, 1, MPI_INT64_T, 0, MPI_COMM_WORLD, request);
  });
  received.resize(static_cast<size_t>(bytes));
  complete("broadcast", [&](MPI_Request* request) {
    return MPI_Ibcast(received.data(), static_cast<int>(bytes), MPI_CHAR, 0, MPI_COMM_WORLD,
                      request);
  });
  return received;
}

std::vector<std::string> gather(const std::string& text) {
  if (!together()) return {text};
  const auto ranks = static_cast<size_t>(size());
  const int bytes = static_cast<int>(text.size());
  std::vector<int> counts(ranks), offsets(ranks);
  complete("gather", [&](MPI_Request* request) {
    return MPI_Iallgather(&bytes, 1, MPI_INT, counts.data(), 1, MPI_INT, MPI_COMM_WORLD, request);
  });
  std::exclusive_scan(counts.begin(), counts.end(), offsets.begin(), 0);
  std::string all(static_cast<size_t>(offsets.back() + counts.back()), '\0');
  complete("gather", [&](MPI_Request* request) {
    return MPI_Iallgatherv(text.data(), bytes, MPI_CHAR, all.data(), counts.data(), offsets.data(),
                           MPI_CHAR, MPI_COMM_WORLD, request);
  });
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

std::string mpi_library() { return ""; }

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

int64_t place_on_machine() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  const std::vector<std::string> machines = gather(name.data());
  return std::count(machines.begin(), machines.begin() + rank(), std::string(name.data()));
}

}  // namespace schmidt::parallel
