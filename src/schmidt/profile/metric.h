#pragma once

#include <span>
#include <string_view>

#include <torch/types.h>

#include "schmidt/model/model.h"

namespace schmidt::profile {

/// A changed model after it has read the text, beside the original.
struct Reading {
  const model::Model& model;       ///< for its output layer, which is never changed
  const torch::Tensor& windows;    ///< int64 [windows, t]
  const torch::Tensor& hidden;     ///< after the final norm [windows, t, hidden]
  const torch::Tensor& reference;  ///< the same of the original
};

/// What a profile measures. A new one is a function and a line of the table.
struct Metric {
  std::string_view name;
  std::string_view label;             ///< of an axis
  double (*measure)(const Reading&);  ///< may be not finite where a model broke down
  /// What is lost against the original's value: 0 for it, adds up over layers about.
  double (*loss)(double value, double dense);
};

std::span<const Metric> metrics();

/// Throws c10::ValueError, naming those that exist.
const Metric& find_metric(std::string_view name);

}  // namespace schmidt::profile
