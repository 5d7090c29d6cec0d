#include "schmidt/text/gguf_keys.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/text/byte_level_kinds.h"
#include "schmidt/text/score_merges.h"
#include "schmidt/text/sentencepiece_pieces.h"
#include "schmidt/text/tokenizer_impl.h"

namespace schmidt::text {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Keys = std::map<std::string, io::GgufValue>;

constexpr const char* kSentencePieceSpace = "\xE2\x96\x81";  // U+2581
constexpr float kScoreOfAdded = -1000;                       // as llama.cpp's converter has it

struct Tokens {
  std::vector<std::string> texts;
  std::vector<int64_t> types;
};

/// What the tokenizer's vocabulary holds, added tokens included.
Tokens tokens_of(const Tokenizer::Impl& impl, int64_t rows, const fs::path& path) {
  if (impl.size() > rows) {
    throw FormatError(path, "tokenizer",
                      fmt::format("expected at most {} tokens, the size of the model's vocabulary, "
                                  "found {}",
                                  rows, impl.size()));
  }
  Tokens tokens;
  for (int64_t id = 0; id < rows; ++id) {
    const std::string* token = impl.token(id);
    tokens.texts.push_back(token != nullptr ? *token : fmt::format("[PAD{}]", id));
    if (token == nullptr) {
      tokens.types.push_back(kUnused);
    } else if (impl.added->token(id) == nullptr) {
      tokens.types.push_back(kNormal);
    } else {
      tokens.types.push_back(impl.added->is_special(id) ? kControl : kUserDefined);
    }
  }
  return tokens;
}

Merges merges_of(const json& tokenizer, const fs::path& file) {
  Merges merges;
  const JsonView root(tokenizer, file);
  for (const JsonView& merge : root.at("model").at("merges").items()) {
    merges.push_back(parse_merge(merge));
  }
  return merges;
}

void add_byte_level(Keys& keys, const json& tokenizer, Tokens tokens, const fs::path& file) {
  const std::optional<std::string> kind = byte_level_kind_name(tokenizer);
  if (!kind) {
    throw FormatError(file, "pre_tokenizer",
                      "expected BPE that cuts words in a way that llama.cpp has a name for (gpt-2, "
                      "smollm, llama-bpe, qwen2, SentencePiece's and others), found another way");
  }
  std::vector<std::string> merges;
  for (const auto& [left, right] : merges_of(tokenizer, file)) {
    merges.push_back(left + " " + right);
  }
  keys["tokenizer.ggml.model"] = {"gpt2"};
  keys["tokenizer.ggml.pre"] = {*kind};
  keys["tokenizer.ggml.merges"] = {std::move(merges)};
  keys["tokenizer.ggml.tokens"] = {std::move(tokens.texts)};
  keys["tokenizer.ggml.token_type"] = {std::move(tokens.types)};
}

void add_sentencepiece(Keys& keys, std::string_view bytes, Tokens tokens, const fs::path& file) {
  const SentencePieceFile model = read_sentencepiece_file(bytes, file);
  if (!model.is_bpe) {
    throw FormatError(file, "trainer_spec.model_type",
                      "expected BPE, the only kind of SentencePiece that is written as GGUF");
  }
  if (model.pieces.size() > tokens.texts.size()) {
    throw FormatError(file, "pieces",
                      fmt::format("expected at most {} pieces, the size of the model's vocabulary, "
                                  "found {}",
                                  tokens.texts.size(), model.pieces.size()));
  }
  std::vector<float> scores(tokens.texts.size(), kScoreOfAdded);
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePiecePiece& piece = model.pieces[id];
    scores[id] = piece.score;
    tokens.texts[id] = piece.text;
    if (piece.type != kNormal) tokens.types[id] = piece.type;
  }
  keys["tokenizer.ggml.model"] = {"llama"};
  keys["tokenizer.ggml.pre"] = {"default"};
  keys["tokenizer.ggml.add_space_prefix"] = {model.add_dummy_prefix};
  keys["tokenizer.ggml.scores"] = {std::move(scores)};
  keys["tokenizer.ggml.tokens"] = {std::move(tokens.texts)};
  keys["tokenizer.ggml.token_type"] = {std::move(tokens.types)};
}

/// How a tokenizer.json writes spaces where it is one of SentencePiece's; none where it is not.
struct Spaces {
  bool before_text = false;  ///< one is added
};
std::optional<Spaces> sentencepiece_spaces(const json& tokenizer) {
  const json model = tokenizer.value("model", json::object());
  if (!model.is_object() || model.value("byte_fallback", json()) != json(true) ||
      model.value("ignore_merges", json(false)) != json(false)) {
    return std::nullopt;
  }
  json cut = as_it_acts(tokenizer.value("pre_tokenizer", json()));
  // Gemma's, which finds no space any more: the normalizer has replaced them.
  if (cut.is_object() && cut.value("type", "") == "Split" &&
      cut.value("pattern", json()) == json{{"String", " "}}) {
    cut = nullptr;
  }
  const json normalizer = as_it_acts(tokenizer.value("normalizer", json()));
  const json replace = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSentencePieceSpace}};
  const json prepend = {{"type", "Prepend"}, {"prepend", kSentencePieceSpace}};
  if (cut.is_null()) {
    if (normalizer == replace) return Spaces{false};
    const json both = {{"type", "Sequence"}, {"normalizers", {prepend, replace}}};
    return normalizer == both ? std::optional(Spaces{true}) : std::nullopt;
  }
  if (!normalizer.is_null() || cut.value("type", json()) != json("Metaspace") ||
      cut.value("replacement", json()) != json(kSentencePieceSpace) ||
      cut.value("split", json(true)) != json(false)) {
    return std::nullopt;
  }
  return Spaces{cut.value("prepend_scheme", json("always")) != json("never")};
}

/// The same from a tokenizer.json whose merges are those that SentencePiece makes by scores.
void add_sentencepiece(Keys& keys, const json& tokenizer, Spaces spaces, Tokens tokens,
                       const fs::path& file) {
  const json unknown = tokenizer.at("model").value("unk_token", json());
  for (size_t id = 0; id < tokens.texts.size(); ++id) {
    const std::string& text = tokens.texts[id];
    if (json(text) == unknown) tokens.types[id] = kUnknown;
    if (parse_byte_token(text)) tokens.types[id] = kByte;
  }
  auto scores = scores_from_merges(tokens.texts, tokens.types, merges_of(tokenizer, file));
  if (!scores) {
    throw FormatError(file, "model.merges",
                      "expected the merges that SentencePiece makes by scores, which is what GGUF "
                      "holds of a tokenizer with byte_fallback, found others");
  }
  keys["tokenizer.ggml.model"] = {"llama"};
  keys["tokenizer.ggml.pre"] = {"default"};
  keys["tokenizer.ggml.add_space_prefix"] = {spaces.before_text};
  keys["tokenizer.ggml.scores"] = {*std::move(scores)};
  keys["tokenizer.ggml.tokens"] = {std::move(tokens.texts)};
  keys["tokenizer.ggml.token_type"] = {std::move(tokens.types)};
}

/// The id of a role that tokenizer_config.json or special_tokens_map.json names.
std::optional<int64_t> id_of_role(const Tokenizer::Impl& impl, const char* role) {
  for (const fs::path name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const auto file = impl.files.find(name);
    if (file == impl.files.end()) continue;
    const json config = io::parse_json(file->second, name);
    if (const auto token = token_text(JsonView(config, name), role)) return impl.id(*token);
  }
  return std::nullopt;
}

/// The tokens that end a generation beside that of a text: llama.cpp knows one that ends a turn,
/// and one that ends a message within a turn.
struct OtherStops {
  std::optional<int64_t> turn, message;
};
OtherStops other_stops(const Tokenizer::Impl& impl) {
  OtherStops stops;
  for (const int64_t id : impl.stop_ids) {
    if (id == impl.eos_id) continue;
    const std::string* token = impl.token(id);
    const bool ends_message = token != nullptr && *token == "<|eom_id|>";  // Llama 3's
    std::optional<int64_t>& place = ends_message || stops.turn ? stops.message : stops.turn;
    if (!place || ends_message) place = id;
  }
  return stops;
}

void add_special_ids(Keys& keys, const Tokenizer::Impl& impl) {
  const auto put = [&](const char* name, std::optional<int64_t> id) {
    if (id) keys[fmt::format("tokenizer.ggml.{}_token_id", name)] = {*id};
  };
  put("bos", impl.bos_id);
  put("eos", impl.eos_id);
  put("unknown", id_of_role(impl, "unk_token"));
  put("padding", id_of_role(impl, "pad_token"));
  const OtherStops stops = other_stops(impl);
  put("eot", stops.turn);
  put("eom", stops.message);
  keys["tokenizer.ggml.add_bos_token"] = {impl.bos_id &&
                                          impl.frame.before == std::vector{*impl.bos_id}};
  keys["tokenizer.ggml.add_eos_token"] = {impl.eos_id &&
                                          impl.frame.after == std::vector{*impl.eos_id}};
}

}  // namespace

Keys gguf_keys(const fs::path& folder, int64_t rows) {
  const auto loaded = load_tokenizer(folder);
  const Tokenizer::Impl& impl = *loaded;
  Tokens tokens = tokens_of(impl, rows, folder);
  const auto text_of = [&](const char* name) -> const std::string* {
    const auto file = impl.files.find(name);
    return file == impl.files.end() ? nullptr : &file->second;
  };
  Keys keys;
  const std::string* described = text_of("tokenizer.json");
  const std::string* pieces = text_of("tokenizer.model");
  json parsed;
  if (described != nullptr) parsed = io::parse_json(*described, folder / "tokenizer.json");
  const auto spaces = described != nullptr ? sentencepiece_spaces(parsed) : std::nullopt;
  if (pieces == nullptr && spaces) {
    add_sentencepiece(keys, parsed, *spaces, std::move(tokens), folder / "tokenizer.json");
  } else if (described != nullptr && (pieces == nullptr || byte_level_kind_name(parsed))) {
    add_byte_level(keys, parsed, std::move(tokens), folder / "tokenizer.json");
  } else if (pieces != nullptr) {
    add_sentencepiece(keys, *pieces, std::move(tokens), folder / "tokenizer.model");
  } else {
    throw FormatError(folder, "", "expected a tokenizer in the folder, found links out of it");
  }
  add_special_ids(keys, impl);
  if (!impl.chat_template.empty()) keys["tokenizer.chat_template"] = {impl.chat_template};
  return keys;
}

}  // namespace schmidt::text
