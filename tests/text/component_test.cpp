// Character classes, normal forms, pre-tokenizers, normalizers and decoders alone,
// against the tokenizers package.
#include <gtest/gtest.h>

#include "schmidt/io/json.h"
#include "schmidt/text/decoder.h"
#include "schmidt/text/normalizer.h"
#include "schmidt/text/pre_tokenizer.h"
#include "schmidt/text/regex.h"
#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

#include "tests/text/oracle.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

const std::filesystem::path kPath = "oracle";

json oracle(const std::string& name) {
  return json::parse(test::read_file(test::text_oracle(name)));
}

// All characters but U+0000 in one text, matched one by one.
TEST(CharacterClasses, HaveTheSameMembersForEveryCharacter) {
  std::string all;
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c < 0xD800 || c >= 0xE000) append_utf8(all, c);
  }
  const json classes = oracle("classes.json");
  ASSERT_GT(classes.size(), 10u);
  for (const auto& [pattern, ranges] : classes.items()) {
    std::vector<bool> expected(0x110000, false), found(0x110000, false);
    for (const json& range : ranges) {
      for (size_t c = range[0]; c <= range[1].get<size_t>(); ++c) expected[c] = true;
    }
    for (const Span& match : Regex(pattern).find_all(all)) {
      found[code_point_at(all, match.begin).value] = true;
    }
    size_t different = 0, first = 0;
    for (size_t c = 0x110000; c-- > 1;) {
      if (c >= 0xD800 && c < 0xE000) continue;
      if (expected[c] != found[c]) ++different, first = c;
    }
    EXPECT_EQ(different, 0u) << pattern << ", first U+" << std::hex << first;
  }
}

TEST(Punctuation, AgreesOnEveryCharacter) {
  std::vector<bool> expected(0x110000, false);
  for (const json& range : oracle("punctuation.json")) {
    for (size_t c = range[0]; c <= range[1].get<size_t>(); ++c) expected[c] = true;
  }
  for (char32_t c = 1; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    ASSERT_EQ(is_punctuation(c), expected[c]) << "U+" << std::hex << static_cast<uint32_t>(c);
  }
}

TEST(NormalForms, AgreeOnEveryCharacterBetweenMarks) {
  const std::vector<std::string> lines = test::read_hex("normal.lines");
  for (const char* form : {"NFC", "NFD", "NFKC", "NFKD"}) {
    const json config = {{"type", form}};
    const Normalizer normalizer = make_normalizer(JsonView(config, kPath));
    const std::vector<std::string> truth = test::read_hex(std::string("normal.") + form);
    ASSERT_EQ(lines.size(), truth.size());
    int different = 0;
    for (size_t i = 0; i < lines.size(); ++i) {
      if (normalizer(lines[i]) == truth[i]) continue;
      if (++different <= 3) ADD_FAILURE() << form << " of \"" << lines[i] << "\"";
    }
    EXPECT_EQ(different, 0) << form;
  }
}

// Calls `compute(config, input)` for every stored case and compares.
template <typename Output, typename Compute>
void expect_components(const std::string& kind, const Compute& compute) {
  const json list = oracle("components.json").at(kind);
  ASSERT_GT(list.size(), 5u);
  for (const json& component : list) {
    int different = 0;
    for (size_t i = 0; i < component.at("inputs").size(); ++i) {
      const json& input = component.at("inputs")[i];
      const auto expected = component.at("outputs")[i].get<Output>();
      const Output got = compute(component.at("config"), input);
      if (got == expected || ++different > 2) continue;
      ADD_FAILURE() << component.at("config").dump() << "\n  input    " << input.dump()
                    << "\n  expected " << json(expected).dump() << "\n  got      "
                    << json(got).dump();
    }
    EXPECT_EQ(different, 0) << component.at("config").dump();
  }
}

TEST(PreTokenizers, CutAlike) {
  expect_components<std::vector<std::string>>(
      "pre_tokenizers", [](const json& config, const json& input) {
        std::vector<std::string> texts;
        if (input.get<std::string>().empty()) return texts;
        const PreTokenizer pre_tokenizer = make_pre_tokenizer(JsonView(config, kPath));
        for (const Piece& piece : pre_tokenizer({{input.get<std::string>(), true}})) {
          texts.push_back(piece.text);
        }
        return texts;
      });
}

TEST(Normalizers, RewriteAlike) {
  expect_components<std::string>("normalizers", [](const json& config, const json& input) {
    return make_normalizer(JsonView(config, kPath))(input.get<std::string>());
  });
}

TEST(Decoders, WriteAlike) {
  expect_components<std::string>("decoders", [](const json& config, const json& input) {
    Decoding decoding(make_decoder(JsonView(config, kPath)));
    std::string text;
    for (const json& token : input) text += decoding.push(token.get<std::string>());
    return text + decoding.flush();
  });
}

}  // namespace
}  // namespace schmidt::text
