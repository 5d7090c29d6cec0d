// Tokenizer::load: which files a tokenizer lies in.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/hf_folder.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/io/lfs_pointer.h"
#include "schmidt/io/model_path.h"
#include "schmidt/text/gguf_vocabulary.h"
#include "schmidt/text/tokenizer_impl.h"
#include "schmidt/text/utf8.h"
#include "schmidt/text/vocabulary_files.h"

namespace schmidt::text {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Larger than any real tokenizer file.
constexpr uint64_t kMaxFileBytes = 200'000'000;

// Everything that AutoTokenizer may read, and `save` hands on.
constexpr const char* kFiles[] = {"tokenizer.json",        "tokenizer.model",
                                  "tokenizer_config.json", "special_tokens_map.json",
                                  "added_tokens.json",     "chat_template.jinja"};
// These two are handed on as one tokenizer.json.
constexpr const char* kVocabulary = "vocab.json";
constexpr const char* kMerges = "merges.txt";

std::string read_file(const fs::path& path) {
  const uint64_t size = bytes_of_file(path);
  if (size > kMaxFileBytes) {
    throw FormatError(path, "",
                      fmt::format("expected at most {} bytes, got {}", kMaxFileBytes, size));
  }
  std::ifstream in(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in) throw SystemError("cannot read", path, errno);
  io::refuse_lfs_pointer(content, path);
  return content;
}

// tokenizer_config.json's added_tokens_decoder, {"id": AddedToken}, and
// added_tokens.json, {"token": id}.
std::vector<AddedToken> added_tokens_beside_model(const JsonView& config, const JsonView& added) {
  std::vector<AddedToken> tokens;
  if (const auto decoder = config.find("added_tokens_decoder")) {
    json list = json::array();
    for (const auto& [id, token] : decoder->value().items()) {
      if (id.empty() || id.size() > 9 || id.find_first_not_of("0123456789") != std::string::npos) {
        decoder->fail(fmt::format("expected ids as keys, got \"{}\"", id));
      }
      const JsonView entry = decoder->at(id);
      list.push_back(entry.find("content") ? token : json::object());
      list.back()["id"] = static_cast<uint64_t>(std::stoul(id));
    }
    tokens = parse_added_tokens(JsonView(list, decoder->path(), decoder->where()));
  }
  for (const auto& [content, id] : added.value().items()) {
    const auto is_same = [&c = content](const AddedToken& t) { return t.content == c; };
    if (content.empty() || std::any_of(tokens.begin(), tokens.end(), is_same)) continue;
    tokens.push_back({.id = added.at(content).integer(), .content = content});
  }
  return tokens;
}

/// Whether transformers' class of the tokenizer may have a token of its own for a role that
/// tokenizer_config.json does not name.
bool class_names(const json& config, const char* role) {
  static const std::set<std::string> kWithout = {"PreTrainedTokenizer", "PreTrainedTokenizerFast",
                                                 "TokenizersBackend"};
  if (config.contains(role)) return !config[role].is_null();
  const auto name = config.find("tokenizer_class");
  return name == config.end() || !name->is_string() || !kWithout.contains(name->get<std::string>());
}

/// Adds tokens that stand beside tokenizer.json to its own; the first `replacing` of them take the
/// place of those with the same text. Ids are the file's where it has one.
void add_tokens(json& tokenizer, const std::vector<AddedToken>& beside, size_t replacing) {
  if (!tokenizer.is_object()) return;
  json& added = tokenizer["added_tokens"];
  if (added.is_null()) added = json::array();
  if (!added.is_array()) return;
  static const json kNone = json::object();
  const auto model = tokenizer.find("model");
  const bool has_names = model != tokenizer.end() && model->is_object() &&
                         model->contains("vocab") && (*model)["vocab"].is_object();
  const json& vocabulary = has_names ? (*model)["vocab"] : kNone;
  std::map<json, size_t> places;  // by the text
  std::set<json> ids;
  for (size_t i = 0; i < added.size(); ++i) {
    if (!added[i].is_object()) return;  // which is told when it is read
    places.emplace(added[i].value("content", json()), i);
    ids.insert(added[i].value("id", json()));
  }
  for (size_t i = 0; i < beside.size(); ++i) {
    const AddedToken& token = beside[i];
    json entry = {{"id", static_cast<uint64_t>(token.id)},
                  {"content", token.content},
                  {"special", token.special},
                  {"lstrip", token.lstrip},
                  {"rstrip", token.rstrip},
                  {"single_word", token.single_word},
                  {"normalized", token.normalized}};
    if (const auto same = places.find(entry["content"]); same != places.end()) {
      json& own = added[same->second];
      entry["id"] = own.value("id", entry["id"]);
      if (i < replacing) own = std::move(entry);
      continue;
    }
    if (vocabulary.contains(token.content)) entry["id"] = vocabulary[token.content];
    if (ids.insert(entry["id"]).second) added.push_back(std::move(entry));
  }
}

std::shared_ptr<Tokenizer::Impl> load_folder(const fs::path& folder) {
  std::map<std::string, std::string> files;
  std::set<std::string> outside;  // read, but not handed on
  for (const char* name : kFiles) {
    const auto file = io::find_in_folder(folder, name);
    if (!file) continue;
    files[name] = read_file(file->path);
    if (file->is_outside) outside.insert(name);
  }
  const auto object = [&](const char* name) {
    const auto file = files.find(name);
    json value = file == files.end() ? json::object() : io::parse_json(file->second, folder / name);
    if (!value.is_object()) throw FormatError(folder / name, "", "expected an object");
    return value;
  };
  const fs::path config_path = folder / "tokenizer_config.json";
  const fs::path map_path = folder / "special_tokens_map.json";
  const json config = object("tokenizer_config.json");
  const json map = object("special_tokens_map.json");

  std::shared_ptr<Tokenizer::Impl> impl;
  if (files.contains("tokenizer.json")) {
    const fs::path path = folder / "tokenizer.json";
    json tokenizer = io::parse_json(files["tokenizer.json"], path);
    const json none = json::object();
    const json added = outside.contains("added_tokens.json") ? none : object("added_tokens.json");
    const fs::path added_path = folder / "added_tokens.json";
    const auto beside =
        added_tokens_beside_model(JsonView(config, config_path), JsonView(added, added_path));
    add_tokens(tokenizer, beside, config.value("added_tokens_decoder", none).size());
    impl = build_from_json(tokenizer, path);
  } else if (files.contains("tokenizer.model")) {
    const fs::path added_path = folder / "added_tokens.json";
    const json added = object("added_tokens.json");
    impl = build_from_sentencepiece(
        files["tokenizer.model"],
        added_tokens_beside_model(JsonView(config, config_path), JsonView(added, added_path)),
        folder / "tokenizer.model");
  } else if (path_exists(folder / kVocabulary) && path_exists(folder / kMerges)) {
    const fs::path model_path = folder / "config.json";
    const JoinedVocabulary joined = join_vocabulary_files(
        {io::read_json_object(folder / kVocabulary), read_file(folder / kMerges), config, map,
         object("added_tokens.json"),
         path_exists(model_path) ? io::read_json_object(model_path) : json::object()},
        folder);
    impl = build_from_json(joined.tokenizer, folder);
    apply_tokenizer_config(*impl, JsonView(joined.roles, folder));
    json saved_config = config;
    if (!saved_config.contains("tokenizer_class")) {
      saved_config["tokenizer_class"] = joined.tokenizer_class;
    }
    files["tokenizer.json"] = joined.tokenizer.dump();
    files["tokenizer_config.json"] = saved_config.dump(2);
  } else {
    throw FormatError(
        folder, "",
        "expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt, found none");
  }
  // The map first: what the configuration says replaces it.
  apply_tokenizer_config(*impl, JsonView(map, map_path));
  apply_tokenizer_config(*impl, JsonView(config, config_path));
  impl->names_bos = impl->bos_id || class_names(config, "bos_token");
  impl->names_eos = impl->eos_id || class_names(config, "eos_token");
  const fs::path named = folder / "additional_chat_templates" / "default.jinja";
  if (!files.contains("chat_template.jinja") && path_exists(named)) {
    files["chat_template.jinja"] = read_file(named);
  }
  if (files.contains("chat_template.jinja")) {
    impl->chat_template = to_valid_utf8(files["chat_template.jinja"]);
  }
  for (const char* name : {"generation_config.json", "config.json"}) {
    if (!path_exists(folder / name) || io::is_blank_file(folder / name)) continue;
    const json generation = io::read_json_object(folder / name);
    const fs::path path = folder / name;
    apply_generation_config(*impl, JsonView(generation, path));
    if (name == std::string_view("config.json")) {
      apply_model_config(*impl, JsonView(generation, path));
    }
  }
  // The rest means nothing without the tokenizer itself.
  const char* main = files.contains("tokenizer.json") ? "tokenizer.json" : "tokenizer.model";
  if (outside.contains(main)) return impl;
  for (const std::string& name : outside) files.erase(name);
  impl->files = std::move(files);
  return impl;
}

// 0 for a file of a vocabulary alone.
int64_t embedding_rows(const io::GgufFile& file) {
  const auto embedding = file.tensors().find("token_embd.weight");
  const bool is_table = embedding != file.tensors().end() && embedding->second.shape.size() == 2;
  return is_table ? embedding->second.shape.front() : 0;
}

std::shared_ptr<Tokenizer::Impl> load_gguf(const fs::path& path) {
  const io::GgufFile file = io::GgufFile::open(path);
  const GgufVocabulary vocabulary = read_gguf_vocabulary(file);
  std::shared_ptr<Tokenizer::Impl> impl = build_from_json(vocabulary.tokenizer, path);
  apply_tokenizer_config(*impl, JsonView(vocabulary.tokenizer_config, path));
  apply_generation_config(*impl, JsonView(vocabulary.generation_config, path));
  impl->model_vocab_size = embedding_rows(file);
  impl->notes = vocabulary.notes;
  json map = json::object();
  for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (vocabulary.tokenizer_config.contains(key)) map[key] = vocabulary.tokenizer_config[key];
  }
  impl->files = {{"tokenizer.json", vocabulary.tokenizer.dump(1)},
                 {"tokenizer_config.json", vocabulary.tokenizer_config.dump(2)},
                 {"special_tokens_map.json", map.dump(2)}};
  return impl;
}

}  // namespace

std::shared_ptr<Tokenizer::Impl> load_tokenizer(const fs::path& name) {
  const fs::path path = io::locate_model(name);
  std::shared_ptr<Tokenizer::Impl> impl =
      io::kind_of_model_path(path) == io::ModelPath::kFolder ? load_folder(path) : load_gguf(path);
  if (impl->eos_id) impl->stop_ids.push_back(*impl->eos_id);
  std::sort(impl->stop_ids.begin(), impl->stop_ids.end());
  impl->stop_ids.erase(std::unique(impl->stop_ids.begin(), impl->stop_ids.end()),
                       impl->stop_ids.end());
  return impl;
}

Tokenizer Tokenizer::load(const fs::path& name) { return Tokenizer(load_tokenizer(name)); }

}  // namespace schmidt::text
