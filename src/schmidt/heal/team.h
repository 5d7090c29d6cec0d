#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/heal/grid.h"
#include "schmidt/parallel/exchange.h"

namespace schmidt::heal {

/// The ranks that heal one model together, and what they exchange through.
struct Team {
  Grid grid;
  parallel::Exchange all;       ///< every rank
  parallel::Exchange data;      ///< those of this stage, by replica
  parallel::Exchange pipeline;  ///< those of this replica, by stage

  /// Whether this rank writes what is of the whole run, or of its stage.
  bool leads() const { return all.rank() == 0; }
  bool leads_stage() const { return data.rank() == 0; }

  /// For the message of a parallel::LostRank.
  void describe(const std::string& work);

  /// Bytes of tensors that this rank has sent.
  int64_t bytes_sent() const;
};

/// One rank alone.
Team alone();

/// All ranks that mpirun started. Throws c10::ValueError if `stages` does not divide their
/// number.
Team make_team(int64_t stages, const parallel::ExchangeOptions& options);

/// Sums of a few numbers over the ranks of an exchange.
std::vector<double> sum_over(parallel::Exchange& exchange, const std::vector<double>& values);

/// Returns once every rank of an exchange is here. Throws parallel::LostRank.
void wait_for_all(parallel::Exchange& exchange);

}  // namespace schmidt::heal
