#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace schmidt::parallel {

/// The ranks of one program: `mpirun -n N schmidt ..` runs N of them, which call the
/// functions below in the same order. Without mpirun a program is rank 0 of 1, MPI is
/// never started and every function is a no-op.
///
/// A rank that dies ends the others: mpirun sees to it when a process is killed, `abort`
/// when it fails. The calls below wait without end, for a rank may have hours of work before it
/// meets the others; exchange.h has a deadline. One thread at a time; exchange.h works beside.

/// Throw c10::ValueError, as all below do, if started by mpirun but built without MPI.
int64_t rank();
int64_t size();

/// Name and version of the MPI that this was built with; empty of a build without MPI. Starts
/// nothing.
std::string mpi_library();

/// Returns when every rank has called it.
void barrier();

/// The text that rank 0 gives, on every rank.
std::string broadcast(const std::string& text);

/// The texts of all ranks, by rank, on every rank.
std::vector<std::string> gather(const std::string& text);

/// How many of the ranks on this machine come before this one.
int64_t place_on_machine();

/// Ends a program whose work is done. Nothing of MPI may follow.
void finalize();

/// Ends all ranks with this exit code; returns where there are no others.
void abort(int code);

}  // namespace schmidt::parallel
