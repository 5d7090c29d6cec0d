#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/encoded_tensor.h"
#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// A tensor of the model in a GGUF file: one of the file's, or a part of one, as experts and layers
/// that Phi holds as one are.
struct GgufWeight {
  const quant::Format* format = nullptr;
  std::vector<int64_t> shape;  ///< row-major
  std::string_view bytes;      ///< in the mapped file
  /// Heads whose rows are interleaved, 0 if the rows are in order. llama.cpp turns
  /// neighbouring pairs where transformers turns the halves of a head, so its
  /// converter stores q and k of the architectures "llama" (Mistral's too) and "granite" with row
  /// i + j * dim/2 of each head (j = 0, 1) at place 2 i + j.
  int64_t interleaved_heads = 0;
  double offset = 0.0;  ///< what the stored numbers have more: 1 of Gemma's norms
};

/// A GGUF file seen as a Hugging Face model.
struct GgufModel {
  GgufFile file;
  nlohmann::json config;             ///< see gguf_config.h
  nlohmann::json generation_config;  ///< the ids of special tokens
  std::map<std::string, GgufWeight> tensors;
};

/// Throws FormatError for an architecture that is not known, a tensor that does
/// not belong to it, missing metadata, and for what GgufFile refuses.
GgufModel open_gguf_model(const std::filesystem::path& path);

/// The same for a file that is open already.
GgufModel as_hugging_face(GgufFile file);

/// Encoded rows of `heads` heads in the order of GgufWeight, from Hugging Face's.
std::string interleaved_rows(std::string_view bytes, int64_t rows, int64_t heads);

/// Decoded, rows in Hugging Face's order.
torch::Tensor load_tensor(const GgufWeight& weight);

/// The same, encoded: mapped where the rows are in order, and else a copy. `file` is what keeps
/// the weight's bytes mapped. A vector of blocks whose values would have to change places between
/// blocks becomes F32, and so does what has an offset.
EncodedTensor load_encoded(const GgufWeight& weight, std::shared_ptr<const void> file);

}  // namespace schmidt::io
