#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/io/checkpoint.h"

namespace schmidt::compress {

/// One linear map of a decoder block. The paper numbers them: L1..L4 are the
/// attention projections q, k, v, o; L5..L7 the MLP's gate, up and down.
struct Layer {
  std::string name;  ///< "model.layers.0.self_attn.q_proj"
  int64_t block = 0;
  int kind = 0;  ///< 1 to 7
  int64_t rows = 0;
  int64_t cols = 0;

  int64_t numel() const { return rows * cols; }
  std::string label() const { return "L" + std::to_string(kind); }
};

/// The layers of a checkpoint that still hold a dense weight, in the model's order.
std::vector<Layer> dense_layers(const io::Checkpoint& checkpoint);

/// Which layers to take. A pattern is a full name, the end of one in whole parts
/// ("q_proj", "mlp.up_proj"), a shell pattern ("model.layers.[0-3].*"), a label
/// of the paper ("L1"), or after "re:" a regular expression that has to match
/// from the start of the full name.
struct LayerSelection {
  std::vector<std::string> include;          ///< empty: every layer
  std::vector<std::string> ignore = {"L7"};  ///< taken out again
};

bool matches(const std::string& pattern, const Layer& layer);

/// Throws c10::ValueError for a regular expression that cannot be read, an
/// `include` pattern that matches no layer, or an empty selection.
std::vector<Layer> select_layers(const std::vector<Layer>& layers, const LayerSelection& selection);

}  // namespace schmidt::compress
