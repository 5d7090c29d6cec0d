#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/heal/adamw.h"
#include "schmidt/heal/batch.h"
#include "schmidt/heal/loss.h"
#include "schmidt/heal/parameters.h"
#include "schmidt/heal/run_log.h"
#include "schmidt/heal/run_state.h"
#include "schmidt/heal/save_points.h"
#include "schmidt/heal/schedule.h"
#include "schmidt/heal/stream.h"
#include "schmidt/heal/teacher_rows.h"
#include "schmidt/heal/team.h"
#include "schmidt/model/model.h"

namespace schmidt::heal {

/// Retraining of the whole model, the third level of the ladder.
struct ModelLevelOptions {
  int64_t batch = 4;        ///< rows of one step, all ranks together
  int64_t micro_batch = 4;  ///< rows of one pass of one rank; gradients add up to the step's
  LossWeights weights;
  Schedule schedule;  ///< its steps are the run's
  AdamWOptions adamw;
  double clip = 1.0;            ///< largest norm of a step's gradient; 0: no clipping
  bool checkpointing = false;   ///< blocks run twice, so that their intermediates need no memory
  int64_t evaluate_every = 25;  ///< steps between looks at the held-out set
  int64_t patience = 0;         ///< looks without a better one that end the run; 0: none do
};

/// Per counted token, nats; NaN where it was not measured.
struct HeldOutLoss {
  static constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();
  double loss = kNotMeasured;  ///< the weighted sum of the two
  double cross_entropy = kNotMeasured;
  double kl = kNotMeasured;  ///< not where it has no weight

  nlohmann::json json() const;
  /// Of what `json` gave; null, which stands for what is not finite, becomes NaN.
  static HeldOutLoss from_json(const nlohmann::json& json);
};

/// What a run works with. Nothing is owned.
struct ModelLevelRun {
  Team& team;
  model::Model& student;             ///< this stage's blocks
  Parameters& parameters;            ///< of them
  TeacherRows teacher;               ///< may be empty where kl weighs 0, or in a pipeline
  const model::Model* teacher_part;  ///< this stage's blocks of it, in place of `teacher`
  Stream& stream;
  const std::vector<Batch>& held_out;  ///< may be empty: then nothing is chosen by it
  const StateStore& store;             ///< of this stage
  RunLog& log;                         ///< written by the rank that leads
  SavePoints& save_points;             ///< asked between steps
  ProgressFn progress;
};

enum class Ended {
  kDone,
  kEarly,     ///< by patience
  kDiverged,  ///< no loss was finite any more
  kInterrupted
};

struct ModelLevelResult {
  Ended ended = Ended::kDone;
  int64_t steps = 0;
  HeldOutLoss before, after;  ///< on the held-out set
};

/// Trains from the state that `run.store` holds, or from the start. Afterwards the model
/// and `run.parameters` hold the parameters that did best on the held-out set, or the
/// last ones where it is empty.
///
/// Ranks that call it together with the same options share the rows of each step, the
/// optimizer and, in a pipeline, the blocks. The curve is that of one rank to rounding,
/// and that of as many ranks to the bit. Throws parallel::LostRank.
///
/// A step whose loss or gradient is not finite is left out; the third in a row ends the run. It
/// throws c10::ValueError where no parameters are known to be better than the first: where no
/// evaluation found any, or nothing is held out and not even the last step was finite.
ModelLevelResult heal_model(const ModelLevelRun& run, const ModelLevelOptions& options);

}  // namespace schmidt::heal
