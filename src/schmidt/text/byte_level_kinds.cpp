#include "schmidt/text/byte_level_kinds.h"

#include <initializer_list>
#include <map>

namespace schmidt::text {
namespace {

using nlohmann::json;

// GPT-2's words, and those of the models after it.
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                               R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen35 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
    R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt4o =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kSeedCoder = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                                   R"( ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Of DeepSeek: cased letters of Unicode 11, and Han, kana and Hangul in one.
constexpr const char* kDeepseekLetters =
    R"(\s?[A-Za-z\x{B5}\x{C0}-\x{D6}\x{D8}-\x{F6}\x{F8}-\x{1BA}\x{1BC}-\x{1BF}\x{1C4}-\x{293})"
    R"(\x{295}-\x{2AF}\x{370}-\x{373}\x{376}\x{377}\x{37B}-\x{37D}\x{37F}\x{386}\x{388}-\x{38A})"
    R"(\x{38C}\x{38E}-\x{3A1}\x{3A3}-\x{3F5}\x{3F7}-\x{481}\x{48A}-\x{52F}\x{531}-\x{556})"
    R"(\x{10A0}-\x{10C5}\x{13A0}-\x{13F5}\x{13F8}-\x{13FD}\x{1C90}-\x{1CBA}\x{1CBD}-\x{1CBF})"
    R"(\x{1D00}-\x{1D2B}\x{1D6B}-\x{1D77}\x{1D79}-\x{1D9A}\x{1E00}-\x{1F15}\x{1F18}-\x{1F1D})"
    R"(\x{1F20}-\x{1F45}\x{1F48}-\x{1F4D}\x{1F50}-\x{1F57}\x{1F59}\x{1F5B}\x{1F5D})"
    R"(\x{1F5F}-\x{1F7D}\x{1F80}-\x{1FB4}\x{1FB6}-\x{1FBC}\x{1FBE}\x{1FC2}-\x{1FC4})"
    R"(\x{1FC6}-\x{1FCC}\x{1FD0}-\x{1FD3}\x{1FD6}-\x{1FDB}\x{1FE0}-\x{1FEC}\x{1FF2}-\x{1FF4})"
    R"(\x{1FF6}-\x{1FFC}\x{2102}\x{2107}\x{210A}-\x{2113}\x{2115}\x{2119}-\x{211D}\x{2124})"
    R"(\x{2126}\x{2128}\x{212A}-\x{212D}\x{212F}-\x{2134}\x{2139}\x{213C}-\x{213F})"
    R"(\x{2145}-\x{2149}\x{214E}\x{2183}\x{2184}\x{2C00}-\x{2C7B}\x{2C7E}-\x{2CE4})"
    R"(\x{2CEB}-\x{2CEE}\x{2CF2}\x{2CF3}\x{A640}-\x{A66D}\x{A680}-\x{A69B}\x{A722}-\x{A76F})"
    R"(\x{A771}-\x{A787}\x{A78B}-\x{A78E}\x{AB70}-\x{ABBF}\x{FB00}-\x{FB06}\x{FB13}-\x{FB17})"
    R"(\x{FF21}-\x{FF3A}\x{FF41}-\x{FF5A}\x{10400}-\x{1044F}\x{104B0}-\x{104D3})"
    R"(\x{104D8}-\x{104FB}\x{10C80}-\x{10CB2}\x{10CC0}-\x{10CF2}\x{118A0}-\x{118DF})"
    R"(\x{1E900}-\x{1E943}]+)";
constexpr const char* kDeepseekPunctuation =
    R"(\s?[!-/:-~\x{FF01}-\x{FF0F}\x{FF1A}-\x{FF5E}\x{2018}-\x{201F}\x{3000}-\x{3002}]+)";
constexpr const char* kDeepseekHan = R"([\x{4E00}-\x{9FA5}\x{800}-\x{4E00}\x{AC00}-\x{D7FF}]+)";
constexpr const char* kDeepseek3Han = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+)";
constexpr const char* kDeepseek3 =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json isolated(const char* regex) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json sequence(json steps) { return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}; }

// The expressions cut one after the other.
json cut_by(std::initializer_list<const char*> regexes) {
  json steps = json::array();
  for (const char* regex : regexes) steps.push_back(isolated(regex));
  steps.push_back(byte_level_component(false));
  return sequence(std::move(steps));
}

std::map<std::string, ByteLevelKind, std::less<>> make_table() {
  const json nfc = {{"type", "NFC"}};
  const json words = byte_level_component(true);
  const json digits_and_words =
      sequence(json::array({{{"type", "Digits"}, {"individual_digits", true}}, words}));

  std::map<std::string, ByteLevelKind, std::less<>> table;
  const auto add = [&](std::initializer_list<const char*> names, const ByteLevelKind& kind) {
    for (const char* name : names) table.emplace(name, kind);
  };
  add({"gpt-2", "phi-2", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de", "gigachat", "a.x-4.0",
       "mellum", "exaone4", "jais", "trillion", "granite-docling"},
      {words});
  add({"mpt", "olmo", "modern-bert"}, {words, nfc});
  add({"smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"},
      {digits_and_words});
  add({"command-r"}, {digits_and_words, nfc});
  add({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
      {.pre_tokenizer = cut_by({kLlama3}), .ignore_merges = true, .add_bos = true});
  add({"dbrx", "smaug-bpe", "glm4", "chatglm-bpe"}, {cut_by({kLlama3})});
  add({"qwen2", "deepseek-r1-qwen"}, {cut_by({kQwen2}), nfc});
  add({"stablelm2", "megrez", "kormo", "f2llmv2", "hunyuan", "solar-open", "grok-2"},
      {cut_by({kQwen2})});
  add({"qwen35"}, {cut_by({kQwen35}), nfc});
  add({"seed-coder"}, {cut_by({kSeedCoder})});
  add({"tekken"}, {.pre_tokenizer = cut_by({kTekken}), .ignore_merges = true, .add_bos = true});
  add({"gpt-4o", "llama4", "kanana2", "minimax-m2"}, {cut_by({kGpt4o})});
  add({"deepseek-llm"}, {cut_by({R"([\r\n])", kDeepseekLetters, kDeepseekPunctuation, R"(\s+$)",
                                 kDeepseekHan, R"(\p{N}+)"})});
  add({"deepseek-coder"},
      {cut_by({R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kDeepseekHan, R"(\p{N})"})});
  add({"deepseek-v3", "hunyuan-dense", "joyai-llm"},
      {cut_by({R"(\p{N}{1,3})", kDeepseek3Han, kDeepseek3})});
  add({"falcon"}, {cut_by({R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2, "[0-9][0-9][0-9]"})});
  add({"default"}, {cut_by({R"([\p{P}\$\+<=>\^~\|]+)", kGpt2, R"(\p{N}+)", "[0-9][0-9][0-9]"})});
  return table;
}

// Of names that stand for the same kind the one that most models have.
constexpr const char* kNames[] = {
    "gpt-2",          "smollm",      "llama-bpe", "qwen2",  "tekken",     "gpt-4o", "stablelm2",
    "dbrx",           "mpt",         "command-r", "qwen35", "seed-coder", "falcon", "deepseek-llm",
    "deepseek-coder", "deepseek-v3", "default"};

json member(const json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : json();
}

}  // namespace

json as_it_acts(json component) {
  if (!component.is_object()) return nullptr;
  for (const char* key : {"pretokenizers", "normalizers"}) {
    const auto steps = component.find(key);
    if (steps == component.end() || !steps->is_array()) continue;
    for (json& step : *steps) step = as_it_acts(step);
    if (steps->empty()) return nullptr;
    if (steps->size() == 1) return steps->front();
  }
  if (component.value("type", "") == "ByteLevel") {
    component.erase("trim_offsets");
    if (!component.contains("use_regex")) component["use_regex"] = true;
    if (!component.contains("add_prefix_space")) component["add_prefix_space"] = true;
  }
  if (component.value("type", "") == "Split" && !component.contains("invert")) {
    component["invert"] = false;
  }
  return component;
}

std::optional<std::string> byte_level_kind_name(const json& tokenizer) {
  const json cut = as_it_acts(member(tokenizer, "pre_tokenizer"));
  const json normalizer = as_it_acts(member(tokenizer, "normalizer"));
  const bool ignores = member(member(tokenizer, "model"), "ignore_merges") == json(true);
  for (const char* name : kNames) {
    const ByteLevelKind& kind = *find_byte_level_kind(name);
    if (as_it_acts(kind.pre_tokenizer) == cut && as_it_acts(kind.normalizer) == normalizer &&
        kind.ignore_merges == ignores) {
      return name;
    }
  }
  return std::nullopt;
}

const ByteLevelKind* find_byte_level_kind(std::string_view name) {
  static const auto kTable = make_table();
  const auto found = kTable.find(name);
  return found == kTable.end() ? nullptr : &found->second;
}

json byte_level_component(bool use_regex, bool add_prefix_space) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", add_prefix_space},
          {"trim_offsets", false},
          {"use_regex", use_regex}};
}

json byte_level_tokenizer(const ByteLevelKind& kind, json vocabulary, json merges) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", kind.normalizer},
          {"pre_tokenizer", kind.pre_tokenizer},
          {"post_processor", byte_level_component(true)},
          {"decoder", byte_level_component(true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", kind.ignore_merges},
            {"vocab", std::move(vocabulary)},
            {"merges", std::move(merges)}}}};
}

}  // namespace schmidt::text
