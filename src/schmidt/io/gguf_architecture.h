#pragma once

#include <span>
#include <string>
#include <string_view>

#include "schmidt/io/gguf.h"
#include "schmidt/io/gguf_names.h"

namespace schmidt::io {

/// A value of general.architecture and what Hugging Face calls it.
struct GgufArchitecture {
  std::string_view name;        ///< also the prefix of its metadata
  std::string_view model_type;  ///< config.json's
  std::string_view model_class;
  bool interleaved_qk = false;  ///< see GgufWeight
  bool experts = false;         ///< its MLPs are mixtures
  double norm_offset = 0.0;     ///< what the file's weights of norms have more
  // What llama.cpp's code of it has fixed.
  bool normalized_shares = true;  ///< of the experts that a token takes: they add up to 1
  bool own_head = false;          ///< an output layer beside the embedding
  bool square_queries = false;    ///< the heads' values are as many as the hidden size
  /// Blocks of the one model whose scores are divided by the root of hidden size over heads, and
  /// not by that of a head's size. 0: there is none.
  int64_t wide_scale_blocks = 0;
  std::span<const GgufName> names = {};  ///< of layers, where they are not Llama's

  /// Whether norm_offset is in a tensor of the file.
  bool is_shifted(std::string_view gguf) const;
};

/// Throws FormatError for one that is not known.
const GgufArchitecture& gguf_architecture(const GgufFile& file);

/// The one that models of that type in config.json have; null for a type that is not known.
const GgufArchitecture* find_gguf_architecture(std::string_view model_type);

/// "llama, qwen2 or mistral", all of them.
std::string known_gguf_model_types();

}  // namespace schmidt::io
