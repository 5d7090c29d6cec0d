#pragma once

#include <filesystem>
#include <map>
#include <string>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/encoded_tensor.h"
#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// A tensor of a GGUF file under its Hugging Face name.
struct GgufWeight {
  const GgufTensor* stored = nullptr;  ///< owned by the file
  /// Heads whose rows are interleaved, 0 if the rows are in order. llama.cpp turns
  /// neighbouring pairs where transformers turns the halves of a head, so its
  /// converter stores q and k of the architecture "llama" (Mistral's too) with row
  /// i + j * dim/2 of each head (j = 0, 1) at place 2 i + j.
  int64_t interleaved_heads = 0;
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
/// blocks becomes F32.
EncodedTensor load_encoded(const GgufWeight& weight, std::shared_ptr<const void> file);

}  // namespace schmidt::io
