// Against the tokenizers and sentencepiece packages, on 20,000 lines: not one id differs.
#include <gtest/gtest.h>

#include "schmidt/text/tokenizer.h"
#include "schmidt/text/utf8.h"

#include "tests/text/oracle.h"

namespace schmidt::text {
namespace {

using test::read_hex;
using test::read_ids;

// A row of the truth and where the tokenizer itself lies.
struct Subject {
  std::string name;
  std::filesystem::path path;
};

Subject trained(const std::string& name) { return {name, test::text_oracle(name)}; }

const std::vector<std::string>& lines() {
  static const std::vector<std::string> kLines = read_hex("lines");
  return kLines;
}

std::string shown(const std::vector<int64_t>& ids) {
  std::string text;
  for (const int64_t id : ids) text += std::to_string(id) + " ";
  return text;
}

void expect_same_ids(const Tokenizer& tokenizer, const std::string& truth_name, size_t from,
                     const EncodeOptions& options) {
  const std::vector<std::vector<int64_t>> truth = read_ids(truth_name);
  ASSERT_GT(truth.size(), 0u);
  ASSERT_LE(from + truth.size(), lines().size());
  int different = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const std::vector<int64_t> ids = tokenizer.encode(lines()[from + i], options);
    if (ids == truth[i]) continue;
    if (++different <= 5) {
      ADD_FAILURE() << truth_name << " line " << from + i << " \"" << lines()[from + i]
                    << "\"\n  expected " << shown(truth[i]) << "\n  got      " << shown(ids);
    }
  }
  EXPECT_EQ(different, 0) << "of " << truth.size();
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
                     bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::string text;
  for (const int64_t id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_TRUE(is_valid_utf8(piece)) << "a broken character after " << text;
    text += piece;
  }
  return text + decoder.flush();
}

class Parity : public testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    SCHMIDT_REQUIRE_PATH(GetParam().path);
    SCHMIDT_REQUIRE_PATH(test::text_oracle(GetParam().name + ".ids"));
    tokenizer_.emplace(Tokenizer::load(GetParam().path));
  }
  std::optional<Tokenizer> tokenizer_;
};

TEST_P(Parity, EncodesEveryLine) {
  ASSERT_EQ(lines().size(), 20'000u);
  expect_same_ids(*tokenizer_, GetParam().name + ".ids", 0, {});
}

TEST_P(Parity, LeavesSpecialTokensAsTextWhenAsked) {
  expect_same_ids(*tokenizer_, GetParam().name + ".plain_ids", lines().size() - 4000,
                  {.parse_special = false});
}

TEST_P(Parity, DecodesRowsFromTextAndRowsFromNowhere) {
  const auto rows = read_ids(GetParam().name + ".rows");
  for (const bool skip : {false, true}) {
    const auto truth = read_hex(GetParam().name + (skip ? ".decoded_skip" : ".decoded_all"));
    ASSERT_EQ(rows.size(), truth.size());
    int different = 0;
    for (size_t i = 0; i < rows.size(); ++i) {
      const std::string text = streamed(*tokenizer_, rows[i], skip);
      EXPECT_EQ(text, tokenizer_->decode(rows[i], skip));
      if (text == truth[i]) continue;
      if (++different <= 5) {
        ADD_FAILURE() << "row " << i << ": " << shown(rows[i]) << "\n  expected \"" << truth[i]
                      << "\"\n  got      \"" << text << "\"";
      }
    }
    EXPECT_EQ(different, 0) << "of " << rows.size();
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Parity,
    testing::Values(trained("gpt2_style"), trained("gpt2_prefix_style"), trained("llama3_style"),
                    trained("qwen2_style"), trained("nfkc_style"), trained("byte_fallback_style"),
                    trained("unknown_style"), trained("fused_unknown_style"),
                    Subject{"tinyllama", test::data_dir() / "tokenizers" / "tinyllama-1.1b-3T"},
                    Subject{"mistral", test::data_dir() / "tokenizers" / "mistral-7b-v0.1"},
                    Subject{"smollm2", test::smollm2_path()}),
    [](const auto& test) { return test.param.name; });

// Truths of add_special come from the tokenizer.json alone, so only where no
// configuration beside it says otherwise.
TEST(ParityOfFrames, AddsWhatThePostProcessorSays) {
  for (const char* name : {"llama3_style", "gpt2_style"}) {
    const Tokenizer tokenizer = Tokenizer::load(test::text_oracle(name));
    expect_same_ids(tokenizer, std::string(name) + ".framed_ids", 0, {.add_special = true});
  }
}

class SentencePieceParity : public testing::TestWithParam<Subject> {};

// A folder with tokenizer.model alone. The package knows no special tokens in text, and
// neither do we with parse_special off.
TEST_P(SentencePieceParity, EncodesEveryLine) {
  const std::filesystem::path model = GetParam().path / "tokenizer.model";
  SCHMIDT_REQUIRE_PATH(model);
  const test::TemporaryFolder folder;
  std::filesystem::copy_file(model, folder / "tokenizer.model");
  expect_same_ids(Tokenizer::load(folder.path()), GetParam().name + ".sentencepiece_ids", 0,
                  {.parse_special = false});
}

// The vocabulary is the same, the way into it another.
TEST_P(SentencePieceParity, DecodesAsTokenizerJsonDoes) {
  const std::filesystem::path model = GetParam().path / "tokenizer.model";
  SCHMIDT_REQUIRE_PATH(model);
  const test::TemporaryFolder folder;
  std::filesystem::copy_file(model, folder / "tokenizer.model");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  const auto rows = read_ids(GetParam().name + ".rows");
  const auto truth = read_hex(GetParam().name + ".decoded_skip");
  int different = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    different += streamed(tokenizer, rows[i], true) != truth[i];
  }
  EXPECT_EQ(different, 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, SentencePieceParity,
    testing::Values(Subject{"tinyllama", test::data_dir() / "tokenizers" / "tinyllama-1.1b-3T"},
                    Subject{"mistral", test::data_dir() / "tokenizers" / "mistral-7b-v0.1"}),
    [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace schmidt::text
