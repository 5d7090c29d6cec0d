#include "schmidt/text/vocabulary_files.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"
#include "schmidt/text/byte_level_kinds.h"
#include "schmidt/text/json_view.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kEnd = "<|endoftext|>";

// A class of transformers: how it cuts words, and its roles where no file gives them.
struct TokenizerClass {
  const char* name;
  const char* kind;  // of byte_level_kinds.h
  std::map<std::string, std::string> roles;
  std::vector<std::string> model_types;
};

const std::vector<TokenizerClass>& tokenizer_classes() {
  static const std::map<std::string, std::string> kGpt2 = {
      {"bos_token", kEnd}, {"eos_token", kEnd}, {"unk_token", kEnd}};
  static const std::map<std::string, std::string> kGptNeoX = {
      {"bos_token", kEnd}, {"eos_token", kEnd}, {"unk_token", kEnd}, {"pad_token", "<|padding|>"}};
  static const std::map<std::string, std::string> kQwen = {
      {"eos_token", kEnd}, {"unk_token", kEnd}, {"pad_token", kEnd}};
  static const std::vector<TokenizerClass> kTable = {
      {"GPT2Tokenizer",
       "gpt-2",
       kGpt2,
       {"gpt2", "gpt_neo", "gptj", "opt", "phi", "starcoder2", "codegen"}},
      {"CodeGenTokenizer", "gpt-2", kGpt2, {}},
      {"GPTNeoXTokenizer", "mpt", kGptNeoX, {"gpt_neox", "mpt", "olmo"}},
      {"Qwen2Tokenizer", "qwen2", kQwen, {"qwen2", "qwen2_moe", "qwen3", "qwen3_moe"}},
      {"Qwen3_5Tokenizer", "qwen35", kQwen, {"qwen3_5", "qwen3_5_text"}}};
  return kTable;
}

const TokenizerClass& find_class(const VocabularyFiles& files, const fs::path& folder) {
  const fs::path config_path = folder / "tokenizer_config.json";
  std::string name = JsonView(files.tokenizer_config, config_path).string_or("tokenizer_class", "");
  if (name.ends_with("Fast")) name.resize(name.size() - 4);
  const std::string model_type = files.model_config.value("model_type", "");
  std::vector<const char*> names;
  for (const TokenizerClass& one : tokenizer_classes()) {
    const bool is_of_model = std::find(one.model_types.begin(), one.model_types.end(),
                                       model_type) != one.model_types.end();
    if (name.empty() ? is_of_model : name == one.name) return one;
    names.push_back(one.name);
  }
  throw FormatError(
      name.empty() ? folder : config_path, name.empty() ? "" : "tokenizer_class",
      fmt::format("vocab.json and merges.txt can be read as one of {}; got {}",
                  fmt::join(names, ", "), name.empty() ? "no tokenizer_class" : name));
}

// Lines of two tokens. The first line may name a version.
json read_merges(const std::string& text, const fs::path& path) {
  json merges = json::array();
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    const bool is_pair = space != std::string::npos && space > 0 && space + 1 < line.size() &&
                         line.find(' ', space + 1) == std::string::npos;
    if (!is_pair || !is_valid_utf8(line)) {
      throw FormatError(path, fmt::format("line {}", number),
                        "expected two tokens with a space between");
    }
    merges.push_back(std::move(line));
  }
  return merges;
}

// "<s>" or {"content": "<s>", ...}.
std::string content_of(const JsonView& token) {
  return token.value().is_object() ? token.at("content").string() : token.string();
}

json added_token(int64_t id, const JsonView& token, bool special) {
  const auto flag = [&](const char* name, bool fallback) {
    return token.value().is_object() ? token.boolean_or(name, fallback) : fallback;
  };
  return {{"id", id},
          {"content", content_of(token)},
          {"single_word", flag("single_word", false)},
          {"lstrip", flag("lstrip", false)},
          {"rstrip", flag("rstrip", false)},
          {"normalized", flag("normalized", !special)},
          {"special", special}};
}

// Gathers the tokens that are found in the text as they stand.
class AddedList {
 public:
  AddedList(const json& vocabulary, json& list) : vocabulary_(vocabulary), list_(list) {
    for (const auto& [token, id] : vocabulary.items()) {
      if (id.is_number_integer()) next_ = std::max(next_, id.get<int64_t>() + 1);
    }
  }

  void add(int64_t id, const JsonView& token, bool special) {
    list_.push_back(added_token(id, token, special));
    next_ = std::max(next_, id + 1);
  }

  // With the id of the vocabulary, or the next one that is free.
  void add_if_absent(const JsonView& token) {
    const std::string content = content_of(token);
    const bool is_there = std::any_of(list_.begin(), list_.end(), [&](const json& other) {
      return other.at("content") == content;
    });
    if (content.empty() || is_there) return;
    const auto known = vocabulary_.find(content);
    const json at(known == vocabulary_.end() ? json(next_) : *known);
    add(JsonView(at, token.path(), content).integer(), token, /*special=*/true);
  }

 private:
  const json& vocabulary_;
  json& list_;
  int64_t next_ = 0;
};

int64_t parse_id(const std::string& text, const JsonView& place) {
  if (text.empty() || text.size() > 9 ||
      text.find_first_not_of("0123456789") != std::string::npos) {
    place.fail(fmt::format("expected ids as keys, got \"{}\"", text));
  }
  return std::stoll(text);
}

json byte_level_with_prefix(json pre_tokenizer) {
  json& last = pre_tokenizer.contains("pretokenizers") ? pre_tokenizer["pretokenizers"].back()
                                                       : pre_tokenizer;
  last["add_prefix_space"] = true;
  return pre_tokenizer;
}

}  // namespace

JoinedVocabulary join_vocabulary_files(const VocabularyFiles& files, const fs::path& folder) {
  const TokenizerClass& kind = find_class(files, folder);
  const fs::path config_path = folder / "tokenizer_config.json";
  const fs::path map_path = folder / "special_tokens_map.json";
  const fs::path added_path = folder / "added_tokens.json";
  const JsonView config(files.tokenizer_config, config_path);
  const std::optional<JsonView> decoder = config.find("added_tokens_decoder");

  // Where the configuration lists its added tokens, transformers reads neither of the two older
  // files.
  json roles = json::object();
  for (const auto& [role, token] : kind.roles) roles[role] = token;
  static const std::vector<std::string> kRoles = {
      "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};
  for (const json* source : {decoder ? nullptr : &files.special_tokens, &files.tokenizer_config}) {
    if (source == nullptr) continue;
    for (const std::string& role : kRoles) {
      if (source->contains(role)) roles[role] = source->at(role);  // null takes it away
    }
  }
  const JsonView role_view(roles, config_path);
  const auto has_role = [&](const std::string& content) {
    return std::any_of(kRoles.begin(), kRoles.end(), [&](const std::string& role) {
      const auto token = role_view.find(role);
      return token && content_of(*token) == content;
    });
  };

  json tokenizer = byte_level_tokenizer(*find_byte_level_kind(kind.kind), files.vocabulary,
                                        read_merges(files.merges, folder / "merges.txt"));
  if (config.boolean_or("add_prefix_space", false)) {
    tokenizer["pre_tokenizer"] = byte_level_with_prefix(tokenizer["pre_tokenizer"]);
  }
  AddedList added(files.vocabulary, tokenizer["added_tokens"]);
  if (decoder) {
    std::map<int64_t, std::string> keys;  // in the order of ids
    for (const auto& [key, token] : decoder->value().items()) keys[parse_id(key, *decoder)] = key;
    for (const auto& [id, key] : keys) {
      const JsonView token = decoder->at(key);
      added.add(id, token, token.boolean_or("special", false) || has_role(content_of(token)));
    }
  } else {
    const JsonView list(files.added_tokens, added_path);
    std::map<int64_t, std::string> contents;
    for (const auto& [content, id] : files.added_tokens.items()) {
      contents[list.at(content).integer()] = content;
    }
    for (const auto& [id, content] : contents) {
      const json token = content;
      added.add(id, JsonView(token, added_path), has_role(content));
    }
  }
  for (const std::string& role : kRoles) {
    if (const auto token = role_view.find(role)) added.add_if_absent(*token);
  }
  for (const auto& [source, path] :
       {std::pair{&files.special_tokens, &map_path}, {&files.tokenizer_config, &config_path}}) {
    if (decoder && source == &files.special_tokens) continue;
    for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
      const auto list = JsonView(*source, *path).find(key);
      if (!list || !list->value().is_array()) continue;
      for (const JsonView& token : list->items()) added.add_if_absent(token);
    }
  }
  return {std::move(tokenizer), std::move(roles), kind.name};
}

}  // namespace schmidt::text
