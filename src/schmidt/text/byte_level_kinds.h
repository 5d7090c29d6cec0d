#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace schmidt::text {

/// How a byte-level BPE tokenizer treats a text before its merges, in the terms of
/// tokenizer.json.
struct ByteLevelKind {
  nlohmann::json pre_tokenizer;         ///< cuts the text into words and writes their bytes
  nlohmann::json normalizer = nullptr;  ///< null: none
  bool ignore_merges = false;           ///< a word that is a token is not merged
  bool add_bos = false;                 ///< where nothing else says
};

/// The kind that llama.cpp calls `name` in `tokenizer.ggml.pre`; nullptr for an unknown name.
/// Source of the regular expressions: ggml-org/llama.cpp, src/llama-vocab.cpp; where it gives the
/// expression of the model's tokenizer.json beside an approximation, the former. Normalizers are
/// those of the models' tokenizer.json.
const ByteLevelKind* find_byte_level_kind(std::string_view name);

/// The name in `tokenizer.ggml.pre` of the kind that a tokenizer.json is of: it cuts, normalizes
/// and merges words exactly so. None where that cannot be said of any.
std::optional<std::string> byte_level_kind_name(const nlohmann::json& tokenizer);

/// A component of a tokenizer.json as it acts: one step is the same in a sequence of its own, and
/// what has no effect on ids is left out. Null for one that does nothing.
nlohmann::json as_it_acts(nlohmann::json component);

/// The ByteLevel component; `use_regex` cuts words as GPT-2 does.
nlohmann::json byte_level_component(bool use_regex, bool add_prefix_space = false);

/// A whole tokenizer.json but for its added tokens. `vocabulary` is {"token": id}, `merges` as
/// tokenizer.json has them.
nlohmann::json byte_level_tokenizer(const ByteLevelKind& kind, nlohmann::json vocabulary,
                                    nlohmann::json merges);

}  // namespace schmidt::text
