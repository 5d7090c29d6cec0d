#include "schmidt/text/gguf_vocabulary.h"

#include <limits>
#include <map>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/text/byte_level_kinds.h"
#include "schmidt/text/score_merges.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

constexpr const char* kMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

struct RawVocabulary {
  std::vector<std::string> tokens;
  std::vector<int64_t> types;  // TokenType; all normal where the file has none

  bool is_padding(size_t id) const { return text::is_padding(tokens[id], types[id], id); }
};

json sequence(const char* key, json items) {
  return {{"type", "Sequence"}, {key, std::move(items)}};
}

template <typename T>
T require(std::optional<T> value, const io::GgufFile& file, const char* key) {
  if (!value) throw FormatError(file.path(), key, "expected a value, got none");
  return std::move(*value);
}

RawVocabulary read_tokens(const io::GgufFile& file) {
  constexpr const char* kTokens = "tokenizer.ggml.tokens";
  constexpr const char* kTypes = "tokenizer.ggml.token_type";
  RawVocabulary raw{require(file.get_strings(kTokens), file, kTokens), {}};
  raw.types = file.get_ints(kTypes).value_or(std::vector<int64_t>(raw.tokens.size(), kNormal));
  if (raw.types.size() != raw.tokens.size()) {
    throw FormatError(
        file.path(), kTypes,
        fmt::format("expected {} values, got {}", raw.tokens.size(), raw.types.size()));
  }
  for (size_t i = 0; i < raw.tokens.size(); ++i) {
    if (!is_valid_utf8(raw.tokens[i])) {
      throw FormatError(file.path(), kTokens, fmt::format("token {} is not UTF-8", i));
    }
  }
  return raw;
}

json vocabulary_of(const io::GgufFile& file, const RawVocabulary& raw) {
  json vocabulary = json::object();
  for (size_t i = 0; i < raw.tokens.size(); ++i) {
    if (raw.is_padding(i)) continue;
    const auto [entry, is_new] = vocabulary.emplace(raw.tokens[i], i);
    if (!is_new) {
      throw FormatError(file.path(), "tokenizer.ggml.tokens",
                        fmt::format("expected one id for \"{}\", got {} and {}", raw.tokens[i],
                                    entry->get<size_t>(), i));
    }
  }
  return vocabulary;
}

json added_tokens_of(const RawVocabulary& raw) {
  json added = json::array();
  for (size_t i = 0; i < raw.tokens.size(); ++i) {
    const int64_t type = raw.types[i];
    const bool special = type == kControl || type == kUnknown;
    if ((!special && type != kUserDefined) || raw.tokens[i].empty()) continue;
    added.push_back({{"id", i},
                     {"content", raw.tokens[i]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

json merges_of(const RawVocabulary& raw, const std::vector<float>& scores) {
  json list = json::array();
  for (const auto& [left, right] : merges_from_scores(raw.tokens, raw.types, scores)) {
    list.push_back(json::array({left, right}));
  }
  return list;
}

struct Parts {
  json tokenizer;
  bool add_bos;
  std::vector<std::string> notes = {};
};

Parts byte_level_parts(const io::GgufFile& file, const RawVocabulary& raw) {
  constexpr const char* kPre = "tokenizer.ggml.pre";
  constexpr const char* kMerges = "tokenizer.ggml.merges";
  const std::string pre = file.get_string(kPre).value_or("");
  std::vector<std::string> notes;
  if (pre.empty()) {
    notes.push_back(
        fmt::format("{} does not say how its tokenizer cuts words ({}): llama.cpp's "
                    "default is taken, which may give worse text",
                    file.path().string(), kPre));
  }
  const ByteLevelKind* kind = find_byte_level_kind(pre.empty() ? "default" : pre);
  if (kind == nullptr) {
    throw FormatError(file.path(), kPre,
                      fmt::format("the pre-tokenizer \"{}\" is not supported", pre));
  }
  return {byte_level_tokenizer(*kind, vocabulary_of(file, raw),
                               require(file.get_strings(kMerges), file, kMerges)),
          kind->add_bos, std::move(notes)};
}

Parts sentencepiece_parts(const io::GgufFile& file, const RawVocabulary& raw) {
  constexpr const char* kScores = "tokenizer.ggml.scores";
  const std::vector<float> scores = require(file.get_floats(kScores), file, kScores);
  if (scores.size() != raw.tokens.size()) {
    throw FormatError(file.path(), kScores,
                      fmt::format("expected {} values, got {}", raw.tokens.size(), scores.size()));
  }
  json unknown;
  for (size_t i = 0; i < raw.tokens.size() && unknown.is_null(); ++i) {
    if (raw.types[i] == kUnknown) unknown = raw.tokens[i];
  }
  json normalizers =
      json::array({{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kMark}}});
  json decoders =
      json::array({{{"type", "Replace"}, {"pattern", {{"String", kMark}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}});
  if (file.get_bool("tokenizer.ggml.add_space_prefix").value_or(true)) {
    normalizers.insert(normalizers.begin(), json({{"type", "Prepend"}, {"prepend", kMark}}));
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  json tokenizer = {{"normalizer", sequence("normalizers", std::move(normalizers))},
                    {"pre_tokenizer", nullptr},
                    {"post_processor", nullptr},
                    {"decoder", sequence("decoders", std::move(decoders))},
                    {"model",
                     {{"type", "BPE"},
                      {"dropout", nullptr},
                      {"unk_token", unknown},
                      {"continuing_subword_prefix", nullptr},
                      {"end_of_word_suffix", nullptr},
                      {"fuse_unk", true},
                      {"byte_fallback", true},
                      {"ignore_merges", false},
                      {"vocab", vocabulary_of(file, raw)},
                      {"merges", merges_of(raw, scores)}}}};
  return {std::move(tokenizer), true};
}

using Reader = Parts (*)(const io::GgufFile&, const RawVocabulary&);

const std::map<std::string, Reader>& readers() {
  static const std::map<std::string, Reader> kTable = {{"gpt2", byte_level_parts},
                                                       {"llama", sentencepiece_parts}};
  return kTable;
}

// What transformers and tokenizers write around a text: `before` A `after`.
json template_processing(const std::vector<std::string>& before,
                         const std::vector<std::string>& after, const json& vocabulary) {
  json single = json::array(), special = json::object();
  const auto put = [&](const std::string& token) {
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    special[token] = {{"id", token}, {"ids", {vocabulary.at(token)}}, {"tokens", {token}}};
  };
  for (const std::string& token : before) put(token);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  for (const std::string& token : after) put(token);
  json pair = single;
  for (json item : single) {
    json& part = item.contains("Sequence") ? item["Sequence"] : item["SpecialToken"];
    part["type_id"] = 1;
    if (item.contains("Sequence")) part["id"] = "B";
    pair.push_back(std::move(item));
  }
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", std::move(pair)},
          {"special_tokens", std::move(special)}};
}

}  // namespace

GgufVocabulary read_gguf_vocabulary(const io::GgufFile& file) {
  constexpr const char* kModel = "tokenizer.ggml.model";
  const std::string model = require(file.get_string(kModel), file, kModel);
  const auto reader = readers().find(model);
  if (reader == readers().end()) {
    throw FormatError(file.path(), kModel,
                      fmt::format("the tokenizer \"{}\" is not supported", model));
  }
  const RawVocabulary raw = read_tokens(file);
  Parts parts = reader->second(file, raw);

  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"model_max_length", std::numeric_limits<int32_t>::max()}};
  json generation = json::object();
  const auto role = [&](const char* key, const char* name) -> std::vector<std::string> {
    const std::optional<int64_t> id = file.get_int(key);
    if (!id) return {};
    if (*id < 0 || *id >= static_cast<int64_t>(raw.tokens.size())) {
      throw FormatError(
          file.path(), key,
          fmt::format("expected an id of 0 .. {}, got {}", raw.tokens.size() - 1, *id));
    }
    if (raw.is_padding(static_cast<size_t>(*id))) return {};
    if (*name != '\0') config[name] = raw.tokens[*id];
    return {raw.tokens[*id]};
  };
  std::vector<std::string> bos = role("tokenizer.ggml.bos_token_id", "bos_token");
  std::vector<std::string> eos = role("tokenizer.ggml.eos_token_id", "eos_token");
  role("tokenizer.ggml.unknown_token_id", "unk_token");
  role("tokenizer.ggml.padding_token_id", "pad_token");
  const std::vector<std::string> eot = role("tokenizer.ggml.eot_token_id", "");
  const std::vector<std::string> eom = role("tokenizer.ggml.eom_token_id", "");

  json& tokenizer = parts.tokenizer;
  const json& vocabulary = tokenizer.at("model").at("vocab");
  json stops = json::array();
  for (const auto& tokens : {eos, eot, eom}) {
    for (const std::string& token : tokens) stops.push_back(vocabulary.at(token));
  }
  if (!stops.empty()) generation["eos_token_id"] = stops;
  if (!bos.empty()) generation["bos_token_id"] = vocabulary.at(bos.front());

  if (!file.get_bool("tokenizer.ggml.add_bos_token").value_or(parts.add_bos)) bos.clear();
  if (!file.get_bool("tokenizer.ggml.add_eos_token").value_or(false)) eos.clear();
  config["add_bos_token"] = !bos.empty();
  config["add_eos_token"] = !eos.empty();
  if (!bos.empty() || !eos.empty()) {
    tokenizer["post_processor"] = template_processing(bos, eos, vocabulary);
  }
  tokenizer["version"] = "1.0";
  tokenizer["truncation"] = nullptr;
  tokenizer["padding"] = nullptr;
  tokenizer["added_tokens"] = added_tokens_of(raw);
  if (const auto source = file.get_string("tokenizer.chat_template")) {
    if (!is_valid_utf8(*source)) {
      throw FormatError(file.path(), "tokenizer.chat_template", "the value is not UTF-8");
    }
    config["chat_template"] = *source;
  }
  return {std::move(tokenizer), std::move(config), std::move(generation), std::move(parts.notes)};
}

}  // namespace schmidt::text
