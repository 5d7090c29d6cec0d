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

/// The method by which embedding and output layer are rounded to fewer than 8 bits: they belong to
/// no block whose output they could be learned from.
inline constexpr const char* kVocabularyMethod = "gptq";

/// Which forms compete for a budget of bytes.
struct FormRules {
  bool symmetric = false;  ///< integers without zero points
  int64_t group = 0;       ///< columns that share a scale; 0: 32, 64 and 128 compete
  /// None: integers, and ranks beside them where those are predicted to lose far less (buy).
  std::optional<compress::FormKinds> kinds;
};

/// Kinds of forms by their names: integers, low-rank, sums, factors; auto for none. Throws
/// c10::ValueError for another, and for auto beside others.
std::vector<std::string> names_of(const std::optional<compress::FormKinds>& kinds);
std::optional<compress::FormKinds> form_kinds(const std::vector<std::string>& names);

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

  /// With the forms alone that the kinds name, for the layers of blocks.
  Competition narrowed(const compress::FormKinds& kinds) const;

  /// Of the smallest forms, for all files.
  int64_t least_bytes() const { return rest + plan::least_bytes(layers); }
};

/// Losses are still 0. Throws c10::ValueError, naming what can be had, where the smallest forms
/// take more than the budget.
Competition compete(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                    const ByteBudget& budget);

/// Fills in all predicted losses (compress::predict_losses), one weight in memory at a time.
void predict_losses(Competition& competition, const io::Checkpoint& model,
                    const calibrate::Statistics& statistics,
                    const compress::MethodOptions& options);

/// What the budget buys of forms whose losses are predicted. Where it names no kinds, ranks are
/// bought if the prediction with them is below 0.7 of that for integers alone, or if integers alone
/// take more bytes: above that share learned rounding takes up what a low rank would (measured,
/// docs/results.md).
plan::BytePlan spend(const Competition& predicted, const ByteBudget& budget);

/// The same of forms whose losses are not predicted yet. Where the budget names no kinds and
/// integers alone are predicted to lose less than 0.5 nats, nothing else is looked at, which
/// takes a third of the time.
plan::BytePlan buy(Competition& competition, const ByteBudget& budget, const io::Checkpoint& model,
                   const calibrate::Statistics& statistics, const compress::MethodOptions& options);

}  // namespace schmidt::pipeline
