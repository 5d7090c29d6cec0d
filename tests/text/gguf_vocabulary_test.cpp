#include "schmidt/text/gguf_vocabulary.h"

#include <cstdlib>
#include <cstring>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/text/tokenizer.h"

#include "tests/text/oracle.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

// The bytes of a GGUF file of version 3 with metadata and no tensors.
class GgufBytes {
 public:
  GgufBytes& put(const std::string& key, const std::string& value) {
    return entry(key, 8).text(value);
  }
  GgufBytes& put(const std::string& key, bool value) {
    return entry(key, 7).number<uint8_t>(value);
  }
  GgufBytes& put(const std::string& key, uint32_t value) { return entry(key, 4).number(value); }
  GgufBytes& put(const std::string& key, const std::vector<std::string>& values) {
    array(key, 8, values.size());
    for (const std::string& value : values) text(value);
    return *this;
  }
  GgufBytes& put(const std::string& key, const std::vector<float>& values) {
    array(key, 6, values.size());
    for (const float value : values) number(value);
    return *this;
  }
  GgufBytes& put(const std::string& key, const std::vector<int32_t>& values) {
    array(key, 5, values.size());
    for (const int32_t value : values) number(value);
    return *this;
  }
  std::string bytes() const {
    GgufBytes header;
    header.body_ = "GGUF";
    header.number<uint32_t>(3).number<uint64_t>(0).number(entries_);
    return header.body_ + body_ + std::string(64, '\0');
  }

 private:
  template <typename T>
  GgufBytes& number(T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    body_.append(raw, sizeof(T));
    return *this;
  }
  GgufBytes& text(const std::string& value) {
    number<uint64_t>(value.size());
    body_ += value;
    return *this;
  }
  GgufBytes& entry(const std::string& key, uint32_t type) {
    ++entries_;
    text(key);
    return number(type);
  }
  void array(const std::string& key, uint32_t type, size_t count) {
    entry(key, 9).number(type).number<uint64_t>(count);
  }

  std::string body_;
  uint64_t entries_ = 0;
};

Tokenizer load(const GgufBytes& file) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "model.gguf", file.bytes());
  return Tokenizer::load(folder / "model.gguf");
}

using Strings = std::vector<std::string>;

GgufBytes byte_level(const std::string& pre) {
  GgufBytes file;
  file.put("tokenizer.ggml.model", std::string("gpt2"))
      .put("tokenizer.ggml.pre", pre)
      .put("tokenizer.ggml.tokens",
           Strings{"<|bos|>", "<|eot|>", "a", "b", "1", "2", "\u0120", "ab", "12",
                   "\u0120"
                   "a",
                   "<u>"})
      .put("tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4})
      .put("tokenizer.ggml.merges", Strings{"a b", "1 2", "\u0120 a"})
      .put("tokenizer.ggml.bos_token_id", uint32_t{0})
      .put("tokenizer.ggml.eos_token_id", uint32_t{0})
      .put("tokenizer.ggml.eot_token_id", uint32_t{1})
      .put("tokenizer.chat_template", std::string("T"));
  return file;
}

TEST(GgufVocabulary, CutsAsItsPreTokenizerSays) {
  const std::string text = "ab 12<u><|eot|> a";
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(load(byte_level("gpt-2")).encode(text), (Ids{7, 6, 8, 10, 1, 9}));
  EXPECT_EQ(load(byte_level("smollm")).encode(text), (Ids{7, 6, 4, 5, 10, 1, 9}));
  EXPECT_EQ(load(byte_level("qwen2")).encode(text), (Ids{7, 6, 4, 5, 10, 1, 9}));
  EXPECT_EQ(load(byte_level("llama-bpe")).encode(text), (Ids{7, 6, 8, 10, 1, 9}));
}

TEST(GgufVocabulary, KnowsItsRoles) {
  const Tokenizer tokenizer = load(byte_level("llama-bpe"));
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.stop_ids(), (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(tokenizer.chat_template(), "T");
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(10));
  // llama-bpe sets a BOS unless the file says no, gpt-2 does not unless it says yes.
  EXPECT_EQ(tokenizer.encode("a", {.add_special = true}).size(), 2u);
  EXPECT_EQ(load(byte_level("gpt-2")).encode("a", {.add_special = true}).size(), 1u);
  EXPECT_EQ(load(byte_level("gpt-2").put("tokenizer.ggml.add_bos_token", true))
                .encode("a", {.add_special = true})
                .size(),
            2u);
}

TEST(GgufVocabulary, SavesWhatGivesTheSameIds) {
  for (const char* pre : {"gpt-2", "smollm", "qwen2", "llama-bpe"}) {
    const Tokenizer tokenizer = load(byte_level(pre));
    const test::TemporaryFolder folder;
    tokenizer.save(folder.path());
    const Tokenizer again = Tokenizer::load(folder.path());
    const EncodeOptions options{.add_special = true};
    EXPECT_EQ(again.encode("ab 12<|eot|>", options), tokenizer.encode("ab 12<|eot|>", options));
    EXPECT_EQ(again.chat_template(), "T");
    EXPECT_EQ(again.eos_id(), tokenizer.eos_id());
  }
}

TEST(GgufVocabulary, PaddingTokensAreNone) {
  GgufBytes file;
  file.put("tokenizer.ggml.model", std::string("gpt2"))
      .put("tokenizer.ggml.pre", std::string("gpt-2"))
      .put("tokenizer.ggml.tokens", Strings{"a", "b", "[PAD2]", "[PAD3]", "ab", "[PAD9]"})
      .put("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 5, 1, 1, 5})
      .put("tokenizer.ggml.merges", Strings{"a b"})
      .put("tokenizer.ggml.padding_token_id", uint32_t{2});
  const Tokenizer tokenizer = load(file);
  EXPECT_EQ(tokenizer.ids_without_token(6), std::vector<int64_t>{2});
  EXPECT_EQ(tokenizer.decode({4, 2, 3}), "ab[PAD3]") << "only what the converter made is none";
  const test::TemporaryFolder folder;
  tokenizer.save(folder.path());
  EXPECT_EQ(Tokenizer::load(folder.path()).ids_without_token(6), std::vector<int64_t>{2});
}

void expect_refused(const GgufBytes& file, const std::string& reason) {
  try {
    load(file);
    FAIL() << "expected " << reason;
  } catch (const FormatError& e) {
    EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
  }
}

TEST(GgufVocabulary, RefusesWhatDoesNotFit) {
  const auto file = [] { return GgufBytes(); };
  const std::string model = "tokenizer.ggml.model", tokens = "tokenizer.ggml.tokens";
  expect_refused(file(), model);
  expect_refused(file().put(model, std::string("bert")), tokens.substr(0, 14));
  expect_refused(file().put(model, std::string("gpt2")), tokens);
  expect_refused(byte_level("no-such-words"), "\"no-such-words\" is not supported");
  const auto pieces = [&](const char* kind, const Strings& list) {
    return file().put(model, std::string(kind)).put(tokens, list);
  };
  expect_refused(pieces("gpt2", {"a"}), "tokenizer.ggml.merges");
  expect_refused(pieces("llama", {"a"}), "tokenizer.ggml.scores");
  expect_refused(pieces("llama", {"a"}).put("tokenizer.ggml.scores", std::vector<float>{1, 2}),
                 "expected 1 values, got 2");
  expect_refused(pieces("llama", {"a"}).put("tokenizer.ggml.token_type", std::vector<int32_t>{}),
                 "expected 1 values, got 0");
  expect_refused(pieces("llama", {"a", "a"}).put("tokenizer.ggml.scores", std::vector<float>{0, 0}),
                 "one id for \"a\"");
  expect_refused(pieces("llama", {"\xFF"}), "UTF-8");
  expect_refused(pieces("llama", {"a"}).put("tokenizer.ggml.scores", std::vector<float>{0}),
                 "byte tokens");
}

// Words of each pre-tokenizer --------------------------------------------------

TEST(GgufVocabulary, AnAbsentPreTokenizerIsLlamaCppsDefaultWithANote) {
  GgufBytes file;
  file.put("tokenizer.ggml.model", std::string("gpt2"))
      .put("tokenizer.ggml.tokens", Strings{"1", "2", "12", "1212", "a", "a1"})
      .put("tokenizer.ggml.merges", Strings{"1 2", "12 12", "a 1"});
  const Tokenizer tokenizer = load(file);
  ASSERT_EQ(tokenizer.notes().size(), 1u);
  EXPECT_NE(tokenizer.notes()[0].find("tokenizer.ggml.pre"), std::string::npos);
  EXPECT_EQ(tokenizer.encode("a1212"), (std::vector<int64_t>{4, 2, 0, 1})) << "a 121 2";
  EXPECT_EQ(load(file.put("tokenizer.ggml.pre", std::string("default"))).notes(), Strings{});
}

// The vocabulary of python/oracles/text.py whose merges heed no border, with the words of `pre`.
GgufBytes uncut(const std::string& pre) {
  const json model =
      json::parse(test::read_file(test::text_oracle("uncut") / "tokenizer.json")).at("model");
  Strings tokens(model.at("vocab").size()), merges;
  for (const auto& [token, id] : model.at("vocab").items()) tokens.at(id.get<size_t>()) = token;
  for (const json& merge : model.at("merges")) {
    merges.push_back(merge.at(0).get<std::string>() + " " + merge.at(1).get<std::string>());
  }
  GgufBytes file;
  file.put("tokenizer.ggml.model", std::string("gpt2"))
      .put("tokenizer.ggml.tokens", tokens)
      .put("tokenizer.ggml.merges", merges);
  return pre.empty() ? file : file.put("tokenizer.ggml.pre", pre);
}

class PreTokenizer : public testing::TestWithParam<std::string> {};

TEST_P(PreTokenizer, CutsAsItsExpressionsDo) {
  const std::string name = "pre_" + GetParam() + ".ids";
  SCHMIDT_REQUIRE_PATH(test::text_oracle(name));
  std::vector<std::string> lines = test::read_hex("lines");
  lines.erase(lines.begin() + 6000, lines.end() - 3000);
  const auto truth = test::read_ids(name);
  ASSERT_EQ(truth.size(), lines.size());
  const Tokenizer tokenizer = load(uncut(GetParam()));
  int different = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    if (tokenizer.encode(lines[i]) == truth[i]) continue;
    if (++different <= 3) ADD_FAILURE() << "line " << i << " \"" << lines[i] << '"';
  }
  EXPECT_EQ(different, 0) << "of " << truth.size();
}

INSTANTIATE_TEST_SUITE_P(All, PreTokenizer,
                         testing::Values("gpt-2", "mpt", "smollm", "starcoder", "refact",
                                         "command-r", "llama-bpe", "qwen2", "deepseek-r1-qwen",
                                         "qwen35", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                                         "falcon", "default"));

TEST(GgufVocabulary, AnAbsentPreTokenizerCutsAsTheDefaultDoes) {
  SCHMIDT_REQUIRE_PATH(test::text_oracle("uncut"));
  const Tokenizer absent = load(uncut("")), named = load(uncut("default"));
  for (const std::string& line : test::read_hex("lines")) {
    ASSERT_EQ(absent.encode(line), named.encode(line)) << line;
  }
}

// SentencePiece vocabularies -------------------------------------------------

bool is_run_of_spaces(std::string_view token) {
  while (token.starts_with("\u2581")) token.remove_prefix(3);
  return token.empty();
}

// TinyLlama's tokenizer.json as a conversion to GGUF would write it: pieces, types, and
// the scores of the original model, which fall with the id and are lowest for spaces.
GgufBytes tinyllama(const json& tokenizer) {
  Strings tokens(tokenizer.at("model").at("vocab").size());
  for (const auto& [token, id] : tokenizer.at("model").at("vocab").items()) {
    tokens.at(id.get<size_t>()) = token;
  }
  std::vector<float> scores(tokens.size());
  std::vector<int32_t> types(tokens.size(), 1);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool is_byte = i >= 3 && i < 259;
    types[i] = i == 0 ? 2 : i < 3 ? 3 : is_byte ? 6 : 1;
    scores[i] = i < 259                       ? 0.0f
                : is_run_of_spaces(tokens[i]) ? -1e9f
                                              : 259.0f - static_cast<float>(i);
  }
  GgufBytes file;
  file.put("tokenizer.ggml.model", std::string("llama"))
      .put("tokenizer.ggml.tokens", tokens)
      .put("tokenizer.ggml.scores", scores)
      .put("tokenizer.ggml.token_type", types)
      .put("tokenizer.ggml.bos_token_id", uint32_t{1})
      .put("tokenizer.ggml.eos_token_id", uint32_t{2});
  return file;
}

TEST(GgufVocabulary, DerivesTheMergesOfSentencePiece) {
  const auto path = test::data_dir() / "tokenizers" / "tinyllama-1.1b-3T" / "tokenizer.json";
  SCHMIDT_REQUIRE_PATH(path);
  SCHMIDT_REQUIRE_PATH(test::text_oracle("tinyllama.ids"));
  const json original = json::parse(test::read_file(path));
  const Tokenizer tokenizer = load(tinyllama(original));
  const auto lines = test::read_hex("lines");
  const auto truth = test::read_ids("tinyllama.ids");
  int different = 0;
  for (size_t i = 0; i < truth.size(); ++i) different += tokenizer.encode(lines[i]) != truth[i];
  EXPECT_EQ(different, 0);
  EXPECT_EQ(tokenizer.encode("a", {.add_special = true}).front(), 1);
}

// AutoTokenizer ----------------------------------------------------------------

// Compares on all lines, beside a config.json whose type must not bring in another
// tokenizer.
void expect_same_in_transformers(const Tokenizer& tokenizer, const std::string& truth) {
  const test::TemporaryFolder folder;
  tokenizer.save(folder.path());
  test::write_file(folder / "config.json",
                   R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"]})");
  const std::string command = fmt::format(
      "{} {} check {} {} {} > {} 2>&1", (test::source_dir() / ".venv" / "bin" / "python").string(),
      (test::source_dir() / "python" / "oracles" / "text.py").string(), folder.path().string(),
      test::text_oracle("lines").string(), test::text_oracle(truth).string(),
      (folder / "log").string());
  EXPECT_EQ(std::system(command.c_str()), 0) << test::read_file(folder / "log");
}

TEST(SavedTokenizer, GivesSmolLm2sIdsInTransformers) {
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  SCHMIDT_REQUIRE_PATH(test::text_oracle("smollm2.ids"));
  expect_same_in_transformers(Tokenizer::load(test::smollm2_path()), "smollm2.ids");
}

TEST(SavedTokenizer, GivesTinyLlamasIdsInTransformers) {
  const auto path = test::data_dir() / "tokenizers" / "tinyllama-1.1b-3T" / "tokenizer.json";
  SCHMIDT_REQUIRE_PATH(path);
  SCHMIDT_REQUIRE_PATH(test::text_oracle("tinyllama.ids"));
  const json original = json::parse(test::read_file(path));
  expect_same_in_transformers(load(tinyllama(original)), "tinyllama.ids");
}

}  // namespace
}  // namespace schmidt::text
