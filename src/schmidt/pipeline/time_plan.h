#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/model/config.h"
#include "schmidt/pipeline/byte_plan.h"
#include "schmidt/pipeline/form_times.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/plan/forms.h"

namespace schmidt::pipeline {

/// Throws c10::ValueError for a speedup that is none, and for a model whose time is not known
/// beforehand.
void check_speedup(double speedup, const model::ModelConfig& config);

/// Throws c10::ValueError, naming what can be had, for a speedup beyond the fastest.
void check_reached(double speedup, double fastest);

/// Spends the time of a step on forms, without those that take longer than the layer as it is. The
/// forms' losses are read as they are when it is asked.
class TimePlanner {
 public:
  /// `original`: seconds of a step that a speedup is over, those of the layers as they are unless
  /// given. Does not own the competition.
  TimePlanner(const Competition& all, StepTimes times);
  TimePlanner(const Competition& all, StepTimes times, double original);

  /// The plan with which a step takes the original's time over `speedup`; the fastest one for a
  /// speedup that is no further beyond than the factor `reach`, since times differ from run to run.
  /// Throws c10::ValueError, naming what can be had.
  plan::BytePlan plan(double speedup, double reach = 1.0) const;

  /// Of a step whose products take so many nanoseconds, over the original's.
  double speedup_at(int64_t cost) const;

  /// Of the fastest forms.
  double fastest() const { return speedup_at(least(priced_forms())); }

  /// The least predicted loss for times from the fastest forms up to the layers as they are.
  Frontier frontier(const std::string& name) const;

 private:
  struct Priced {
    std::vector<plan::LayerForms> layers;
    std::vector<std::vector<int64_t>> costs;  // nanoseconds
  };

  static int64_t least(const Priced& priced);
  Priced priced_forms() const;

  const Competition* all_;
  StepTimes times_;
  double original_;
};

}  // namespace schmidt::pipeline
