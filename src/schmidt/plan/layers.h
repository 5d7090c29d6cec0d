#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"

namespace schmidt::plan {

/// One linear map of a decoder block, or several that read the same input and are
/// held as one, their weights stacked. The paper numbers them: L1..L4 are the
/// attention projections q, k, v, o; L5..L7 the MLP's gate, up and down.
struct Layer {
  std::string name;  ///< "model.layers.0.self_attn.q_proj", "...self_attn.qkv_proj"
  int64_t block = 0;
  std::vector<int> paper_numbers;    ///< 1 to 7; several for stacked layers
  std::vector<std::string> members;  ///< names of the stacked layers; its own otherwise
  int64_t rows = 0;                  ///< of all members
  int64_t cols = 0;
  std::optional<int64_t> expert = {};  ///< of a mixture of experts, see model::Group

  int64_t numel() const { return rows * cols; }
  std::string label() const;  ///< "L1", "L1+L2+L3"
  /// The layers of its block that read the same input.
  model::Group group() const;
};

/// Sorts layers in the model's order, embedding and output layer first.
std::tuple<int64_t, std::optional<int64_t>, std::vector<int>> place_in_model(const Layer& layer);

/// The layers of a checkpoint that still hold a dense weight, in the model's order.
std::vector<Layer> dense_layers(const io::Checkpoint& checkpoint);

/// The embedding, and the output layer where that is not the same, as far as they are dense: layers
/// of no block (-1) and no number, which are planned only where a plan names them.
std::vector<Layer> dense_vocabulary(const model::ModelConfig& config);

/// The same from a config alone. Throws FormatError as model::parse_config.
std::vector<Layer> layers_of(const model::ModelConfig& config);

/// Layers of one input become one where all of its group are there: q, k, v as
/// qkv_proj, gate and up as gate_up_proj (w1 and w3 as w1_w3). Stacked, they share one basis of
/// their input.
std::vector<Layer> share_inputs(const std::vector<Layer>& layers);

/// W [rows, cols], the members' weights on top of each other, as stored; float32 where it is
/// unfolded from another form. Throws FormatError, naming the tensor, if one holds NaN or infinity.
torch::Tensor load_weight(const io::Checkpoint& checkpoint, const Layer& layer);

/// Which layers to take. A pattern is a full name, the end of one in whole parts
/// ("q_proj", "mlp.up_proj"), a shell pattern ("model.layers.[0-3].*"), a label
/// of the paper ("L1"), or after "re:" a regular expression that has to match
/// from the start of the full name.
struct LayerSelection {
  std::vector<std::string> include;          ///< empty: every layer
  std::vector<std::string> ignore = {"L7"};  ///< taken out again
};

bool matches(const std::string& pattern, const Layer& layer);

/// Throws c10::ValueError, under the name of the option they come from, for a pattern that
/// matches none of the layers: a name mistyped would protect nothing. "none" means just that.
void check_patterns(std::string_view option, const std::vector<std::string>& patterns,
                    const std::vector<Layer>& layers);

/// Throws c10::ValueError for a regular expression that cannot be read, an
/// `include` pattern that matches no layer, or an empty selection.
std::vector<Layer> select_layers(const std::vector<Layer>& layers, const LayerSelection& selection);

}  // namespace schmidt::plan
