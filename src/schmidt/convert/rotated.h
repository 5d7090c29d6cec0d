#pragma once

#include <cstdint>
#include <optional>

#include <torch/types.h>

#include "schmidt/convert/dense.h"
#include "schmidt/io/checkpoint.h"

namespace schmidt::convert {

/// An orthogonal matrix [n, n] whose numbers are all about as large, float32: with n = 2^k m and m
/// odd, a Hadamard matrix of 2^k times a random orthogonal one of m, its columns with random signs.
torch::Tensor random_rotation(int64_t n, uint64_t seed);

/// A model that computes the same with its residual stream turned by random_rotation and the values
/// of each head by another, so that no number of what q, k, v, o, gate, up and the output layer
/// read stands out. What norms multiply by is in the weights behind them, and the output layer,
/// which turns otherwise than the embedding, is no longer tied to it. What `down` reads stays.
/// Source: Ashkboos et al. 2024, arXiv:2404.00456 (QuaRot).
/// Throws c10::ValueError where layers are compressed, or norms stand behind attention and MLP:
/// what these multiply by does not turn with the stream.
DenseModel rotated_model(const io::Checkpoint& checkpoint, uint64_t seed,
                         std::optional<torch::ScalarType> dtype = {});

}  // namespace schmidt::convert
