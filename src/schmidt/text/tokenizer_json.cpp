// tokenizer.json and its configuration, declared in tokenizer_impl.h.
#include <fmt/format.h>

#include "schmidt/text/tokenizer_impl.h"

namespace schmidt::text {
namespace {

// One source, or a list of {name, template} of which "default" counts.
std::string parse_chat_template(const JsonView& json) {
  if (json.value().is_string()) return json.string();
  const std::vector<JsonView> named = json.items();
  for (const JsonView& item : named) {
    if (item.at("name").string() == "default") return item.at("template").string();
  }
  return "{{ raise_exception('expected a chat template of the name default, found others') }}";
}

}  // namespace

std::optional<std::string> token_text(const JsonView& config, const std::string& role) {
  const auto value = config.find(role);
  if (!value) return std::nullopt;
  return value->value().is_object() ? value->at("content").string() : value->string();
}

void set_added_tokens(Tokenizer::Impl& impl, std::vector<AddedToken> tokens,
                      const Normalizer& normalizer, const JsonView& place) {
  std::map<int64_t, const AddedToken*> by_id;
  std::map<std::string_view, const AddedToken*> by_text;
  for (const AddedToken& token : tokens) {
    const auto refuse = [&](const std::string& other) {
      place.fail(fmt::format("expected one token for id {}, got \"{}\" and \"{}\"", token.id,
                             token.content, other));
    };
    if (token.id > impl.vocabulary.size() + kMaxHoles) {
      place.fail(fmt::format("expected ids of 0 .. {}, got {} for \"{}\"",
                             impl.vocabulary.size() + kMaxHoles, token.id, token.content));
    }
    const std::string* known = impl.vocabulary.token(token.id);
    if (known != nullptr && *known != token.content) refuse(*known);
    const auto [same_id, is_new_id] = by_id.try_emplace(token.id, &token);
    if (!is_new_id && same_id->second->content != token.content) refuse(same_id->second->content);
    const auto known_id = impl.vocabulary.id(token.content).value_or(token.id);
    const auto [same_text, is_new_text] = by_text.try_emplace(token.content, &token);
    if (known_id != token.id || same_text->second->id != token.id) {
      place.fail(fmt::format("expected one id for \"{}\", got {} and {}", token.content, token.id,
                             known_id != token.id ? known_id : same_text->second->id));
    }
  }
  impl.added.emplace(std::move(tokens), normalizer);
}

std::shared_ptr<Tokenizer::Impl> build_from_json(const nlohmann::json& tokenizer,
                                                 const std::filesystem::path& path) {
  const JsonView root(tokenizer, path);
  const JsonView model = root.at("model");
  // Files of before 2023 leave the type out.
  if (const std::string type = model.string_or("type", "BPE"); type != "BPE") {
    model.at("type").fail(fmt::format("the model \"{}\" is not supported", type));
  }
  auto impl = std::make_shared<Tokenizer::Impl>();
  impl->vocabulary = Vocabulary(model.at("vocab"));
  impl->bpe.emplace(model, impl->vocabulary);

  Normalizer normalizer;
  if (const auto json = root.find("normalizer")) normalizer = make_normalizer(*json);
  const auto added = root.find("added_tokens");
  set_added_tokens(*impl, added ? parse_added_tokens(*added) : std::vector<AddedToken>{},
                   normalizer, added.value_or(root));
  if (const auto json = root.find("pre_tokenizer")) impl->pre_tokenizer = make_pre_tokenizer(*json);
  const auto decoder = root.find("decoder");
  impl->decoder = decoder ? make_decoder(*decoder) : make_joining_decoder();
  if (const auto json = root.find("post_processor")) {
    impl->frame = parse_post_processor(*json);
    for (const auto& side : {impl->frame.before, impl->frame.after}) {
      for (const int64_t id : side) {
        if (impl->token(id) == nullptr) json->fail(fmt::format("the id {} has no token", id));
      }
    }
  }
  return impl;
}

std::shared_ptr<Tokenizer::Impl> build_from_sentencepiece(std::string_view bytes,
                                                          const std::vector<AddedToken>& added,
                                                          const std::filesystem::path& path) {
  auto impl = std::make_shared<Tokenizer::Impl>();
  impl->sentencepiece.emplace(bytes, path);
  const nlohmann::json place_value;
  const JsonView place(place_value, path, "pieces");
  int64_t next = 0;
  for (const std::string& piece : impl->sentencepiece->pieces()) {
    impl->vocabulary.add(piece, next++, place);
  }
  // What the configuration says of a token counts more than the model's own word.
  std::vector<AddedToken> tokens = added;
  for (const AddedToken& special : impl->sentencepiece->special_tokens()) {
    const auto is_same = [&](const AddedToken& t) { return t.content == special.content; };
    if (std::none_of(added.begin(), added.end(), is_same)) tokens.push_back(special);
  }
  set_added_tokens(*impl, std::move(tokens), {}, place);

  static const nlohmann::json kDecoder = nlohmann::json::parse(R"({
    "type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  impl->decoder = make_decoder(JsonView(kDecoder, path));
  const int64_t bos = impl->sentencepiece->bos_id(), eos = impl->sentencepiece->eos_id();
  if (bos >= 0) impl->bos_id = bos, impl->frame.before = {bos};
  if (eos >= 0) impl->eos_id = eos, impl->stop_ids = {eos};
  return impl;
}

void apply_tokenizer_config(Tokenizer::Impl& impl, const JsonView& config) {
  if (const auto source = config.find("chat_template")) {
    impl.chat_template = parse_chat_template(*source);
  }
  const auto role = [&](const std::string& key, std::optional<int64_t>& id) {
    const std::optional<std::string> text = token_text(config, key);
    if (!text) return;
    const std::optional<int64_t> found = impl.id(*text);
    if (!found) config.at(key).fail(fmt::format("\"{}\" is not a token", *text));
    id = found;
  };
  role("bos_token", impl.bos_id);
  role("eos_token", impl.eos_id);
  // Either decides over the post-processor, as in llama.cpp's conversion and in transformers 4 for
  // the classes that these were made for; transformers 5 leaves it to the post-processor.
  if (config.find("add_bos_token") || config.find("add_eos_token")) {
    impl.frame = {};
    if (config.boolean_or("add_bos_token", false) && impl.bos_id) {
      impl.frame.before = {*impl.bos_id};
    }
    if (config.boolean_or("add_eos_token", false) && impl.eos_id) {
      impl.frame.after = {*impl.eos_id};
    }
  }
}

void apply_model_config(Tokenizer::Impl& impl, const JsonView& config) {
  if (const auto size = config.find("vocab_size")) impl.model_vocab_size = size->integer();
}

void apply_generation_config(Tokenizer::Impl& impl, const JsonView& config) {
  const auto ids = [&](const std::string& key) {
    std::vector<int64_t> result;
    const auto value = config.find(key);
    if (!value) return result;
    if (value->value() == -1) return result;  // how some say that there is none
    if (!value->value().is_array()) return std::vector<int64_t>{value->integer()};
    for (const JsonView& item : value->items()) result.push_back(item.integer());
    return result;
  };
  // Ids of models that were padded or cut may have no token here: not our mistake to find.
  for (const int64_t id : ids("bos_token_id")) {
    if (!impl.bos_id && impl.token(id) != nullptr) impl.bos_id = id;
  }
  for (const int64_t id : ids("eos_token_id")) {
    if (impl.token(id) == nullptr) continue;
    if (!impl.eos_id) impl.eos_id = id;
    impl.stop_ids.push_back(id);
  }
}

}  // namespace schmidt::text
