#pragma once

#include <torch/types.h>

namespace schmidt::kernels {

/// Operations a second of the threads of this process, or of a device, in a product of two square
/// matrices, which training and prompts come near to: the best within 0.3 seconds. A multiplication
/// and its addition are two.
double measure_product_speed(const torch::Device& device,
                             torch::ScalarType dtype = torch::kFloat32);

}  // namespace schmidt::kernels
