#pragma once

#include "schmidt/compress/methods.h"

namespace schmidt::compress {

/// A layer as it is fitted, and as a file holds it.
struct StoredFit {
  FittedWeight fitted;
  model::StoredWeight stored;
  /// ||W'_stored - W'||_F / ||W'||_F: what rounding to the file's dtype adds. Zero in float32,
  /// where it is not measured.
  double rounding_error = 0.0;
};

/// A layer as it was fitted, packed in `dtype`, its errors in the form.
StoredFit pack_fit(const plan::LayerPlan& plan, FittedWeight fitted, torch::ScalarType dtype);

/// Fits a layer (fit_layer) and packs it in `dtype`, its errors in the form.
///
/// Without the freedom of its bonds a network has larger bonds for the same bytes, but
/// multiplies the rounding of its cores: in bfloat16 the stored weight differs from the fitted
/// one by 0.7 to 2 %, plain cores by 0.24 %. Where that is more than a tenth of what the fit
/// itself loses, plain cores of at most the same bytes are fitted too, and what is nearer to W
/// as stored, in the norm of the inputs where they are known, is taken.
StoredFit fit_and_pack(const Method& method, const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options,
                       torch::ScalarType dtype);

}  // namespace schmidt::compress
