#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/heal/block_level.h"
#include "schmidt/heal/model_level.h"
#include "schmidt/heal/stream.h"
#include "schmidt/heal/team.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/weights.h"
#include "schmidt/package/summary.h"

namespace schmidt::heal {

/// A short retraining of a compressed model: the block level on the first `block_tokens`
/// of the text, then the model level on what follows.
struct HealOptions {
  std::vector<Source> data;
  StreamOptions stream;
  int64_t tokens = 1'000'000;  ///< of text in all, both levels, each pass counted
  int64_t block_tokens = 0;    ///< of them, for the block level; 0: no such level
  BlockLevelOptions block_level;
  ModelLevelOptions model_level;  ///< its schedule's steps follow from `tokens`
  TrainedParts trained;
  model::LoadOptions load;  ///< the dtype and device of the computation
  int64_t top_k =
      0;  ///< store so many of the teacher's likeliest tokens first; 0: keep the teacher
  double save_minutes = 10.0;  ///< between saved states
  bool resume = false;         ///< go on with unfinished work of the same recipe
  bool force = false;          ///< replace `out`, and drop unfinished work there
};

struct HealCallbacks {
  ProgressFn progress;
  std::function<bool()> interrupted;  ///< true: save the state and end
  /// After the log has grown, now and then: where it is.
  std::function<void(const std::filesystem::path& log)> logged;
};

struct HealResult {
  Ended ended = Ended::kDone;
  int64_t steps = 0;          ///< of the model level
  HeldOutLoss before, after;  ///< of the model level
  /// Of the healed checkpoint; none if interrupted, or where the team's leader is another.
  std::optional<package::ModelSummary> summary;
  int64_t skipped_lines = 0;  ///< broken ones of the data
};

/// Writes a healed copy of `student` to `out`, with the run's log in heal.jsonl.
///
/// Work goes to `out`.partial. It survives a kill at any time: started again with
/// `resume`, the same recipe goes on from the last saved state to the same parameters.
/// The ranks of a team call it together, with folders that they share; the first one of
/// each stage writes. Their stages are those of the team's grid.
///
/// Throws c10::ValueError if `out` exists (and not `force`), if unfinished work lies there
/// without `resume` or belongs to another recipe, model or data set, if no teacher is
/// given where one is needed, or options do not fit; FormatError, SystemError,
/// parallel::LostRank.
HealResult heal(const io::Checkpoint& student, const std::optional<io::Checkpoint>& teacher,
                const std::filesystem::path& out, const HealOptions& options,
                const HealCallbacks& callbacks, Team& team);

/// One rank alone.
HealResult heal(const io::Checkpoint& student, const std::optional<io::Checkpoint>& teacher,
                const std::filesystem::path& out, const HealOptions& options,
                const HealCallbacks& callbacks);

/// Steps of the model level: what `tokens` leave after the block level.
int64_t model_level_steps(const HealOptions& options);

/// The recipe as compression_config keeps it.
nlohmann::json recipe(const HealOptions& options);

}  // namespace schmidt::heal
