#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/plan/forms.h"

namespace schmidt::compress {

/// Which kinds of forms compete beside the weight as it is. Those with a rank are predicted to
/// gain where learned rounding then gains as much without them (docs/results.md).
struct FormKinds {
  bool whole = true;      ///< the weight in integers
  bool low_rank = false;  ///< two factors in integers
  bool sums = false;      ///< the weight in integers, and a low rank of what that loses
  bool factors = false;   ///< two factors as they are, which save time more than bytes
};

/// Which forms of a layer compete for its bytes.
struct FormChoice {
  FormKinds kinds;
  std::vector<int64_t> groups = {32, 64, 128};  ///< those that divide its rows
  bool symmetric = false;                       ///< without zero points, as 8 bits always are
  std::string method = "learned";               ///< of integers of few bits
  int64_t scalar_bytes = 2;                     ///< of a number that stays as it is
};

/// All forms of a layer, with their bytes, their losses still 0: as it is, in integers of every
/// width in each of the groups, and for layers of blocks as low ranks and sums. Those of integers
/// that take more bytes than integers of 8 bits are left out.
plan::LayerForms possible_forms(const plan::Layer& layer, const FormChoice& choice);

/// Fills in what each form of W [m, n] is predicted to lose, in nats a token:
///
///   integers   the loss of rounding to the nearest in searched ranges, measured on a sample of
///              rows by the diagonal of the Fisher information; of embedding and output layer
///              with error feedback where the method has it, by their rows' own (RowFisher)
///   low rank   half of the squares that it drops (Statistics::squares), and that of its factors
///   factors    half of the squares that they drop, times 1.7: as much as was measured beside the
///              predictions of integers (docs/results.md)
///   sum        the share of the former that the low rank of such an error leaves
///
/// each rounding times what learning leaves of it where the form's method learns.
void predict_losses(plan::LayerForms& forms, const torch::Tensor& w,
                    const calibrate::Statistics& statistics, const MethodOptions& options);

}  // namespace schmidt::compress
