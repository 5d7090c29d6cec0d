#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>

#include "schmidt/base/progress.h"
#include "schmidt/heal/heal.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/parallel/exchange.h"

namespace schmidt::pipeline {

/// Where a healing happens and who shares it, which decides nothing but rounding.
struct HealRun {
  std::filesystem::path out;           ///< folder of the healed checkpoint
  int64_t stages = 1;                  ///< the model's blocks over so many of the ranks
  parallel::ExchangeOptions exchange;  ///< between ranks
  std::function<bool()> interrupted;   ///< true: save the state and end
};

/// Heals a compressed model into a folder, with the run's log in heal.jsonl and a page of it in
/// heal.html, written anew while the run goes on. The ranks of mpirun call it together; the
/// summary of the result is rank 0's.
/// Throws as heal::heal, and c10::ValueError where `run.out` cannot be written beside what is
/// read.
heal::HealResult heal_model(const io::Checkpoint& student,
                            const std::optional<io::Checkpoint>& teacher,
                            const heal::HealOptions& options, const HealRun& run,
                            const Reporter& reporter);

}  // namespace schmidt::pipeline
