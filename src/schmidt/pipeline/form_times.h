#pragma once

#include <cstdint>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/pipeline/byte_plan.h"

namespace schmidt::pipeline {

/// The work whose speed counts.
struct Workload {
  bool prefill = false;  ///< prompts are read; otherwise a token of each sequence at a time
  int64_t batch = 1;     ///< sequences at once
  int64_t prompt = 512;  ///< tokens of each that a step of prefill reads
  torch::ScalarType dtype = torch::kBFloat16;

  int64_t rows() const { return prefill ? batch * prompt : batch; }  ///< of each product
};

/// How long one step of a model takes here, by the pieces that a plan can change. Products are
/// timed one by one, by the kernels that this machine runs, on weights that come from memory as
/// those of a model do; integers multiply what is rounded to int8, as `generate` does.
struct StepTimes {
  std::vector<std::vector<double>> forms;  ///< seconds of each form of each layer that competes
  std::vector<double> dense;               ///< seconds of each layer as it is
  double rest = 0.0;                       ///< seconds of what no form changes

  double original() const;  ///< seconds of the model as it is
};

/// Times the forms, equal ones once, and a step through blocks of the model for what lies between
/// the products. Throws c10::ValueError for a workload that does not fit the model.
StepTimes measure_times(const io::Checkpoint& model, const Competition& competition,
                        const Workload& workload);

}  // namespace schmidt::pipeline
