#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace schmidt::text {

/// What a folder without tokenizer.json says of its byte-level BPE tokenizer. Objects of files
/// that are absent are empty.
struct VocabularyFiles {
  nlohmann::json vocabulary;        ///< vocab.json: {"token": id}
  std::string merges;               ///< merges.txt: a pair of tokens on each line
  nlohmann::json tokenizer_config;  ///< tokenizer_config.json
  nlohmann::json special_tokens;    ///< special_tokens_map.json
  nlohmann::json added_tokens;      ///< added_tokens.json: {"token": id}
  nlohmann::json model_config;      ///< config.json
};

/// The same in one piece, as transformers' class of that tokenizer makes it.
struct JoinedVocabulary {
  nlohmann::json tokenizer;  ///< tokenizer.json
  nlohmann::json roles;      ///< bos_token, eos_token, ...: the class's own where no file says
  std::string tokenizer_class;
};

/// The class is `tokenizer_class`, else that of the model's type: GPT2Tokenizer, CodeGenTokenizer,
/// GPTNeoXTokenizer, Qwen2Tokenizer, Qwen3_5Tokenizer. Throws FormatError, which names `folder`
/// or the file in it, for another class and for lines that are no pair.
JoinedVocabulary join_vocabulary_files(const VocabularyFiles& files,
                                       const std::filesystem::path& folder);

}  // namespace schmidt::text
