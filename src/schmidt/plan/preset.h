#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schmidt/plan/layers.h"
#include "schmidt/plan/outline.h"

namespace schmidt::plan {

/// A model of the paper's table. Both compressed ones tensorize L1 to L6 in 16 bits so
/// that 30.7 % of the parameters stay (2.07 of LLaMA-2 7B's 6.74 billion, "2.1 B") and
/// leave L7, embedding and head alone; their names count bytes against float32. The others keep all
/// parameters: as they are, or in integers, embedding and head then in 8 bits.
/// Source: arXiv 2401.14109, tables 1 and 2.
struct Preset {
  std::string_view name;
  double keep;              ///< share of the whole model's parameters
  bool mixed_int4;          ///< the block layers that stay dense become int4
  std::string_view ignore;  ///< the layers left alone
  int bits = 0;             ///< of all block layers, in integers; 0: none are
  bool float32 = false;     ///< numbers are written in it; else in 16 bits, beside integers as read

  bool tensorizes() const { return keep < 1.0; }
};

std::span<const Preset> presets();

/// Throws c10::ValueError, naming those that exist.
const Preset& find_preset(std::string_view name);

/// Throws c10::ValueError with the nearest size that can be had, if the model keeps
/// more than the preset asks for even with bond 1 in all of `layers`.
/// least: parameters of these layers at their cheapest.
void check_reach(const Preset& preset, const Outline& model, const std::vector<Layer>& layers,
                 int64_t least);

}  // namespace schmidt::plan
