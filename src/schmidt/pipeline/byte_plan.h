#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/forms.h"
#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/plan/forms.h"

namespace schmidt::pipeline {

/// The method by which embedding and output layer are rounded for a budget of bytes: they belong
/// to no block whose output they could be learned from.
inline constexpr const char* kVocabularyMethod = "searched";

/// Which forms compete for a budget of bytes.
struct FormRules {
  bool symmetric = false;  ///< integers without zero points
  int64_t group = 0;       ///< columns that share a scale; 0: 32, 64 and 128 compete
  compress::FormKinds kinds;
};

/// Kinds of forms by their names: integers, low-rank, sums. Throws c10::ValueError for another.
std::vector<std::string> names_of(const compress::FormKinds& kinds);
compress::FormKinds form_kinds(const std::vector<std::string>& names);

/// A budget for all weights' files, and what may be bought with it.
struct ByteBudget {
  double bytes = 0;
  FormRules rules;
  std::string method = "learned";          ///< of the blocks' integers
  std::optional<torch::ScalarType> dtype;  ///< of what stays as it is; none: as it was read
};

/// All forms of the layers that compete, and the bytes of all other tensors.
struct Competition {
  std::vector<plan::LayerForms> layers;
  int64_t rest = 0;  ///< of what is no layer of these, and of headers

  /// The plan of at most so many bytes for all files.
  plan::BytePlan plan(double bytes) const;
};

/// Losses are still 0. Throws c10::ValueError, naming what can be had, where the smallest forms
/// take more than the budget.
Competition compete(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                    const ByteBudget& budget);

/// Fills in all predicted losses (compress::predict_losses), one weight in memory at a time.
void predict_losses(Competition& competition, const io::Checkpoint& model,
                    const calibrate::Statistics& statistics,
                    const compress::MethodOptions& options);

}  // namespace schmidt::pipeline
