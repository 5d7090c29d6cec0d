#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/plan/outline.h"

namespace schmidt::pipeline {

/// Bits of a weight for which it is said what a memory holds: 16 as models come; 8 and 4 as the
/// presets int8 and int4 of `plan_model`, in groups of 64, embedding and head in 8.
inline constexpr std::array<int, 3> kCapacityBits = {16, 8, 4};

/// A loaded model over its file, at most.
inline constexpr double kLoadedShare = 1.15;

/// What a model takes while it answers one text of `context` tokens.
struct MemoryNeed {
  std::string name;
  int64_t parameters = 0;
  std::array<double, kCapacityBits.size()> bytes{};  ///< for each of kCapacityBits
};

/// The bytes of its files, as `plan` counts them, times kLoadedShare, and keys and values in 16
/// bits.
MemoryNeed memory_need(const std::string& name, const plan::Outline& model, int64_t context);

/// Of models that many know.
std::vector<MemoryNeed> known_needs(int64_t context);

/// The largest model of LLaMA's proportions, n blocks 128 n wide (7B: 32 blocks, 13B: 40), whose
/// weights in kCapacityBits[width] bits such a memory holds; nothing (0 parameters) where it holds
/// not even one block.
MemoryNeed largest_need(double memory, size_t width, int64_t context);

}  // namespace schmidt::pipeline
