#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/model/model.h"

namespace schmidt::eval {

/// Which half of a model's own text: what compression is calibrated on must not be
/// what it is judged by.
enum class SelfHalf { kCalibration, kHeldOut };

struct SelfTextOptions {
  int64_t tokens = 4096;  ///< at least so many in the half asked for
  int64_t length = 512;   ///< of each sample, in tokens
  uint64_t seed = 0;
  SelfHalf half = SelfHalf::kHeldOut;
  std::vector<int64_t> never_drawn = {};  ///< ids that no token has
};

/// In how many batches the samples of a text are drawn, those of one side by side.
/// Throws c10::ValueError for options out of range.
int64_t self_batches(const SelfTextOptions& options);

/// The samples of one batch, counted from 0; all of them are those of `sample_self_text`.
std::vector<std::vector<int64_t>> sample_self_batch(const model::Model& model,
                                                    const SelfTextOptions& options, int64_t batch,
                                                    const ProgressFn& progress = {});

/// A text sampled from the model itself at temperature 1: every sample starts from
/// the model's BOS (or first EOS) token and goes on over ends of text until `length`.
/// The same model, seed and options give the same ids; the two halves share none.
/// Returns the samples one after the other, a multiple of `length` ids.
/// Throws c10::ValueError if the model names neither BOS nor EOS.
std::vector<int64_t> sample_self_text(const model::Model& model, const SelfTextOptions& options,
                                      const ProgressFn& progress = {});

}  // namespace schmidt::eval
