#pragma once

#ifdef SCHMIDT_MPI

#include <functional>
#include <mutex>

#include <mpi.h>

namespace schmidt::parallel {

/// MPI runs with MPI_THREAD_SERIALIZED: every call of it holds this lock, and none that
/// is made with it waits for another rank.
std::mutex& mpi_mutex();

/// Starts MPI at the first call. False: this process is alone.
bool together();

/// Throws LostRank if an MPI call did not succeed: another rank is out of reach.
void check_mpi(int code, const char* what);

}  // namespace schmidt::parallel

#endif
