#pragma once

#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/eval/multiple_choice.h"
#include "schmidt/model/model.h"

namespace schmidt::profile {

/// A tensor for each batch of rows that are read together.
using Batches = std::vector<torch::Tensor>;

/// A changed model after it has read the text or the questions, beside the original.
struct Reading {
  const model::Model& model;                     ///< for its output layer, which is never changed
  const Batches& ids;                            ///< int64 [b, t]
  const calibrate::ActivationStream& hidden;     ///< after the final norm [b, t, hidden]
  const calibrate::ActivationStream& reference;  ///< the same of the original
  const eval::MultipleChoice* questions;  ///< whose rows the ids are, where the metric asks any
};

/// What a profile measures. A new one is a function and a line of the table (or a call of
/// add_metric).
struct Metric {
  std::string_view name;
  std::string_view label;             ///< of an axis
  bool asks;                          ///< of an eval::Task of that name; else it reads text
  double (*measure)(const Reading&);  ///< may be not finite where a model broke down
  /// What is lost against the original's value: 0 for it, adds up over layers about.
  double (*loss)(double value, double dense);
  std::string_view loss_unit;
};

/// On text, then on each of eval::tasks that is multiple choice, then those that were added.
std::vector<const Metric*> metrics();

/// Adds a metric from outside the library; `metric` has to outlive its use. Not safe beside threads
/// that look metrics up. Throws c10::ValueError if there is one of that name.
void add_metric(const Metric& metric);

/// Throws c10::ValueError, naming those that exist.
const Metric& find_metric(std::string_view name);

}  // namespace schmidt::profile
