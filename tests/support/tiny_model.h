#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

namespace schmidt::test {

/// A random model of the Llama architecture, small enough for unit tests: hidden
/// 24, 4 heads of 6 (2 key-value), MLP 36, vocabulary 264, tied embedding, context 128.
struct TinyModel {
  nlohmann::json config;
  std::map<std::string, torch::Tensor> tensors;
};

/// `scale` times as wide, but for the vocabulary.
TinyModel make_tiny_model(int64_t blocks = 2, uint64_t seed = 1, int64_t scale = 1);

/// The same of another family: its `model_type` and what else its config says. Weights are large
/// enough for every part of the model to count.
TinyModel make_tiny_model_of(const std::string& model_type, const nlohmann::json& changes);

/// Writes it as a Hugging Face folder (no tokenizer) and returns the folder.
std::filesystem::path write_model(const TinyModel& model, const std::filesystem::path& folder);

struct ByteTokenizer {
  std::vector<std::string> special = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  std::string bos = "<|im_start|>", eos = "<|im_end|>";
  std::string chat_template =
      "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
      "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
  /// Pairs of tokens that become one, as BPE spells them: "Ġ H".
  std::vector<std::string> merges = {};
};

/// A tokenizer.json of the special tokens (three by default), then one token for each
/// byte, byte b as id special.size() + b, then what merges make. ChatML by default.
void write_byte_tokenizer(const std::filesystem::path& folder, const ByteTokenizer& of = {});

}  // namespace schmidt::test
