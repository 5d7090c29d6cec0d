#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include <nlohmann/json.hpp>
#include <torch/types.h>

namespace schmidt::test {

/// A random model of the Llama architecture, small enough for unit tests: hidden
/// 24, 4 heads of 6 (2 key-value), MLP 36, vocabulary 264, tied embedding, context 128.
struct TinyModel {
  nlohmann::json config;
  std::map<std::string, torch::Tensor> tensors;
};

TinyModel make_tiny_model(int64_t blocks = 2, uint64_t seed = 1);

/// Writes it as a Hugging Face folder (no tokenizer) and returns the folder.
std::filesystem::path write_model(const TinyModel& model, const std::filesystem::path& folder);

/// A tokenizer.json of 259 tokens: <|endoftext|>, <|im_start|>, <|im_end|>, then one
/// token for each byte, byte b as id 3 + b; no merges. ChatML as its chat template.
void write_byte_tokenizer(const std::filesystem::path& folder);

}  // namespace schmidt::test
