#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "schmidt/io/json_record.h"
#include "schmidt/io/scaled_tensor.h"

namespace schmidt::io {

/// What bitsandbytes says of a weight in NF4 beside its numbers: a JSON text, the bytes of the
/// tensor NAME.weight.quant_state.bitsandbytes__nf4.
struct Nf4State {
  int64_t rows = 0, columns = 0;
  int64_t block = 0;         ///< weights that share a magnitude
  int64_t nested_block = 0;  ///< magnitudes that share one of their own; 0: they are not rounded
  double offset = 0.0;       ///< what is added to rounded magnitudes
  std::string dtype = "float32";  ///< of the weight before

  /// Whether the tensors of both have the same shapes.
  bool has_layout_of(const Nf4State& other) const {
    return rows == other.rows && columns == other.columns && block == other.block &&
           nested_block == other.nested_block;
  }
  std::string layout() const;  ///< "576 x 1536, blocks of 64, magnitudes of 256"
};

constexpr const char* kNf4Kind = "nf4";
constexpr std::string_view kNf4StateEnd = ".weight.quant_state.bitsandbytes__nf4";

/// The tensors of a weight in NF4 behind the name of its layer.
constexpr std::array<std::string_view, 6> kNf4Ends = {
    ".weight",    ".weight.absmax",          ".weight.quant_map", ".weight.nested_absmax",
    kNf4StateEnd, ".weight.nested_quant_map"};

/// `name`: of the tensor, for messages. Throws FormatError for text that is no such JSON, for a key
/// that is missing, mistyped or not known, and for a type that is not NF4.
Nf4State parse_nf4_state(std::string_view text, const std::string& name,
                         const std::filesystem::path& path);
std::string nf4_state_text(const Nf4State& state);

/// Its entry in compression_config.layers, and back: {"kind": "nf4", "shape": [m, n], "block": 64,
/// "state_bytes": 150, "nested_block": 256}, the last where magnitudes are rounded; state_bytes are
/// those of `text`. Parsing gives no offset and dtype.
nlohmann::json nf4_form(const Nf4State& state, std::string_view text);
Nf4State parse_nf4_form(const JsonRecord& form);

/// Says in compression_config.layers of `config` how the weights of bitsandbytes in NF4 are stored,
/// for those that are not there yet. Throws FormatError for a state as above, and for FP4.
void describe_nf4(nlohmann::json& config, const std::map<std::string, HfTensor>& tensors,
                  const std::filesystem::path& folder);

/// The tensors of the weights in NF4 that compression_config.layers describes, moved out of
/// `tensors`.
std::map<std::string, HfTensor> take_nf4(std::map<std::string, HfTensor>& tensors,
                                         const nlohmann::json& config);

}  // namespace schmidt::io
