// Folders with vocab.json and merges.txt in place of tokenizer.json.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/format_error.h"
#include "schmidt/text/tokenizer.h"

#include "tests/text/oracle.h"

namespace schmidt::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;

class VocabularyFiles : public testing::Test {
 protected:
  VocabularyFiles() {
    write("vocab.json", R"({"a": 0, "b": 1, "1": 2, "Ġ": 3, "ab": 4, "11": 5, "Ġa": 6})");
    write("merges.txt", "#version: 0.2\na b\n1 1\nĠ a\n");
  }
  void write(const std::string& name, const std::string& content) {
    test::write_file(folder / name, content);
  }
  Tokenizer load() const { return Tokenizer::load(folder.path()); }

  void expect_refused(const std::string& part) const {
    try {
      load();
      FAIL() << "expected " << part;
    } catch (const FormatError& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  }

  test::TemporaryFolder folder;
};

TEST_F(VocabularyFiles, TheClassSaysHowWordsAreCut) {
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  EXPECT_EQ(load().encode("ab 11 a"), (Ids{4, 3, 5, 6}));
  EXPECT_EQ(load().encode("ab<|endoftext|>"), (Ids{4, 7})) << "an end that is no token is added";
  EXPECT_EQ(load().bos_id(), 7);
  EXPECT_EQ(load().stop_ids(), Ids{7});
  EXPECT_EQ(load().decode({4, 3, 5, 6}), "ab 11 a");
  write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2TokenizerFast"})");
  EXPECT_EQ(load().encode("ab 11 a"), (Ids{4, 3, 2, 2, 6}));
  EXPECT_EQ(load().bos_id(), std::nullopt);
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true,
                                     "bos_token": null, "eos_token": "b"})");
  EXPECT_EQ(load().encode("a"), Ids{6});
  EXPECT_EQ(load().bos_id(), std::nullopt);
  EXPECT_EQ(load().eos_id(), 1);
}

TEST_F(VocabularyFiles, TheModelsTypeSaysItWhereNoClassDoes) {
  write("config.json", R"({"model_type": "qwen3"})");
  EXPECT_EQ(load().encode("ab 11 a"), (Ids{4, 3, 2, 2, 6}));
  write("config.json", R"({"model_type": "gpt2"})");
  EXPECT_EQ(load().encode("ab 11 a"), (Ids{4, 3, 5, 6}));
  write("config.json", R"({"model_type": "llama"})");
  expect_refused("no tokenizer_class");
}

TEST_F(VocabularyFiles, AddedTokensKeepTheirIds) {
  write("config.json", R"({"model_type": "qwen2", "vocab_size": 20})");
  write("tokenizer_config.json", R"({
    "tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "chat_template": "T",
    "added_tokens_decoder": {"10": {"content": "<|im_end|>", "special": true},
                             "9": {"content": "<call>", "special": false}}})");
  const Tokenizer tokenizer = load();
  EXPECT_EQ(tokenizer.encode("ab<|im_end|><call>"), (Ids{4, 10, 9}));
  EXPECT_TRUE(tokenizer.is_special(10));
  EXPECT_FALSE(tokenizer.is_special(9));
  EXPECT_EQ(tokenizer.chat_template(), "T");
  EXPECT_EQ(tokenizer.stop_ids(), Ids{10});
  EXPECT_EQ(tokenizer.token_to_id("<|endoftext|>"), 11);
  EXPECT_EQ(tokenizer.ids_without_token(14), (Ids{7, 8, 12, 13}));
}

TEST_F(VocabularyFiles, SavesATokenizerOfOneFile) {
  write("config.json", R"({"model_type": "qwen3"})");
  write("added_tokens.json", R"({"<|im_end|>": 7, "<call>": 8})");
  write("special_tokens_map.json", R"({"eos_token": "<|im_end|>"})");
  const Tokenizer tokenizer = load();
  const test::TemporaryFolder to;
  tokenizer.save(to.path());
  const Tokenizer again = Tokenizer::load(to.path());
  const std::string text = "ab 11<|im_end|> a<call><|endoftext|>";
  EXPECT_EQ(again.encode(text), tokenizer.encode(text));
  EXPECT_EQ(again.eos_id(), 7);
  EXPECT_EQ(json::parse(test::read_file(to / "tokenizer_config.json"))["tokenizer_class"],
            "Qwen2Tokenizer");
}

TEST_F(VocabularyFiles, RefusesWhatDoesNotFit) {
  expect_refused("no tokenizer_class");
  write("tokenizer_config.json", R"({"tokenizer_class": "MarianTokenizer"})");
  expect_refused("MarianTokenizer");
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2Tokenizer"})");
  write("merges.txt", "a b\nab\n");
  expect_refused("merges.txt: line 2");
  write("merges.txt", "a b\na b c\n");
  expect_refused("line 2");
  write("merges.txt", "a c\n");
  expect_refused("\"c\" is not a token");
  write("merges.txt", "a b\r\n\r\n# version\r\n");
  expect_refused("\"#\" is not a token");
  write("merges.txt", "a b\r\n1 1\r\n");
  EXPECT_EQ(load().encode("ab11"), (Ids{4, 5}));
  write("vocab.json", "[]");
  expect_refused("vocab.json");
  std::filesystem::remove(folder / "vocab.json");
  expect_refused("expected tokenizer.json");
}

class VocabularyFolder : public testing::TestWithParam<std::string> {};

TEST_P(VocabularyFolder, GivesTheIdsOfTransformers) {
  const std::string truth_name = GetParam() + ".ids";
  SCHMIDT_REQUIRE_PATH(test::text_oracle(truth_name));
  std::vector<std::string> lines = test::read_hex("lines");
  lines.erase(lines.begin() + 3000, lines.end() - 3000);
  const auto truth = test::read_ids(truth_name);
  ASSERT_EQ(truth.size(), lines.size());
  const Tokenizer tokenizer = Tokenizer::load(test::text_oracle(GetParam()));
  int different = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    if (tokenizer.encode(lines[i]) == truth[i]) continue;
    if (++different <= 3) ADD_FAILURE() << "line " << i << " \"" << lines[i] << '"';
  }
  EXPECT_EQ(different, 0) << "of " << truth.size();
}

INSTANTIATE_TEST_SUITE_P(All, VocabularyFolder,
                         testing::Values("gpt2_files", "gpt2_prefix_files", "qwen2_files",
                                         "qwen2_old_files", "qwen35_files", "gpt_neox_files"));

}  // namespace
}  // namespace schmidt::text
