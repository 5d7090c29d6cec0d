#pragma once

#include <optional>
#include <string>

#include <torch/types.h>

#include "schmidt/calibrate/statistics.h"
#include "schmidt/compress/methods.h"
#include "schmidt/model/quantized_matrix.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/plan/plan.h"

namespace schmidt::compress {

/// Matrices whose codes stand for a weight W [m, n]: W itself, a low rank L R of it, or the sum of
/// both. What is left out is undefined, or none.
struct WeightParts {
  torch::Tensor whole;        ///< [m, n]
  torch::Tensor left, right;  ///< [m, r], [r, n]
};

/// How much the columns of W and of a right factor count where ranges of rounding are searched [n]:
/// by what is known of the layer's inputs; undefined where that is nothing.
torch::Tensor column_weights(const LayerInputs& inputs, const torch::Device& device);

/// The same of the columns of a left factor [r] beside R [r, n]: their own inputs are R x.
torch::Tensor left_column_weights(const torch::Tensor& right, const torch::Tensor& column_weights);

/// The same rounded.
struct RoundedParts {
  std::optional<model::QuantizedMatrix> whole, left, right;
};

/// What is to be rounded of W for a plan of integers.
///
/// A low rank alone is the optimum in the norm that is known. Beside integers it is that of what
/// rounding W to the nearest loses, and what it does not hold is rounded once more. The left
/// factor has orthonormal columns, the left-canonical gauge: its entries are of one size, so that
/// a group of them shares a scale, and each row of the right factor has scales of its own.
/// Source of the alternation: Saha et al. 2024, arXiv:2405.18886 (CALDERA).
WeightParts parts_of(const torch::Tensor& w, const plan::LayerPlan& plan, const LayerInputs& inputs,
                     const MethodOptions& options);

/// L [m, rank] and R [rank, n] of the low rank nearest to W in the norm of its inputs' and, where
/// they are known, its gradient's moments.
struct Factors {
  torch::Tensor left, right;
};
Factors nearest_factors(const torch::Tensor& w, int64_t rank, const LayerInputs& inputs,
                        const MethodOptions& options);

/// What statistics say of a layer's inputs and gradient in the original model.
LayerInputs inputs_of_original(const calibrate::Statistics& statistics, const plan::Layer& layer,
                               const torch::Device& device);

/// As a checkpoint holds it: kind quantized, factored, or sum.
model::StoredWeight stored_weight(const std::string& name, const RoundedParts& parts);

}  // namespace schmidt::compress
