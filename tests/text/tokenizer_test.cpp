#include "schmidt/text/tokenizer.h"

#include <chrono>
#include <random>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;

// Three letters and a space, two special tokens and a plain added one.
json small() {
  return {{"model",
           {{"type", "BPE"},
            {"vocab", {{"<s>", 0}, {"</s>", 1}, {"a", 2}, {"b", 3}, {"c", 4}, {" ", 5}, {"ab", 6}}},
            {"merges", {"a b"}}}},
          {"added_tokens",
           {{{"id", 0}, {"content", "<s>"}, {"special", true}},
            {{"id", 1}, {"content", "</s>"}, {"special", true}},
            {{"id", 7}, {"content", "<call>"}, {"special", false}}}},
          {"decoder", {{"type", "Fuse"}}}};
}

Tokenizer build(const json& config) { return Tokenizer::from_json(config.dump()); }

TEST(Tokenizer, CutsAddedTokensOutOfTheText) {
  const Tokenizer tokenizer = build(small());
  EXPECT_EQ(tokenizer.encode("<s>ab <call>c</s>"), (Ids{0, 6, 5, 7, 4, 1}));
  // Special tokens stay text, and here that text has no tokens; others are found.
  EXPECT_EQ(tokenizer.encode("<s>ab<call>", {.parse_special = false}), (Ids{6, 7}));
  EXPECT_EQ(tokenizer.encode(""), Ids{});
}

TEST(Tokenizer, TellsWhatItsTokensAre) {
  const Tokenizer tokenizer = build(small());
  EXPECT_EQ(tokenizer.vocab_size(), 8);
  EXPECT_EQ(tokenizer.id_to_token(7), "<call>");
  EXPECT_EQ(tokenizer.token_to_id("ab"), 6);
  EXPECT_EQ(tokenizer.token_to_id("abc"), std::nullopt);
  EXPECT_TRUE(tokenizer.is_special(1));
  EXPECT_FALSE(tokenizer.is_special(7));
  EXPECT_FALSE(tokenizer.is_special(99));
}

TEST(Tokenizer, SkipsSpecialTokensWhenAsked) {
  const Tokenizer tokenizer = build(small());
  EXPECT_EQ(tokenizer.decode({0, 6, 7, 1}), "<s>ab<call></s>");
  EXPECT_EQ(tokenizer.decode({0, 6, 7, 1}, /*skip_special=*/true), "ab<call>");
}

TEST(Tokenizer, RefusesIdsBeyondTheVocabulary) {
  const Tokenizer tokenizer = build(small());
  for (const int64_t id : {int64_t{-1}, int64_t{8}, int64_t{1} << 40}) {
    EXPECT_THROW(tokenizer.decode({id}), c10::ValueError);
    EXPECT_THROW(tokenizer.id_to_token(id), c10::ValueError);
    EXPECT_THROW(StreamDecoder(tokenizer).push(id), c10::ValueError);
  }
}

TEST(Tokenizer, SetsWhatTheTemplateSays) {
  json config = small();
  config["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
        {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}}}},
      {"special_tokens", {{"<s>", {{"ids", {0}}}}, {"</s>", {{"ids", {1}}}}}}};
  EXPECT_EQ(build(config).encode("ab", {.add_special = true}), (Ids{0, 6, 1}));
  EXPECT_EQ(build(config).encode("ab"), Ids{6});
  config["post_processor"]["special_tokens"]["<s>"]["ids"] = {77};
  EXPECT_THROW(build(config), FormatError);
}

json byte_level() {
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    int code = byte;
    // GPT-2's alphabet: unprintable bytes have stand-ins from U+0100 on, in order.
    if (!((byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE)) {
      code = 0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 33 : 67);
    }
    if (code < 0x80) {
      token = static_cast<char>(code);
    } else {
      token = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    }
    vocabulary[token] = byte;
  }
  return {{"model", {{"vocab", vocabulary}, {"merges", json::array()}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}}};
}

TEST(Tokenizer, SpellsAnyBytesAndReadsThemBack) {
  const Tokenizer tokenizer = build(byte_level());
  const std::string text = "h\u00E9 \u4E2D\U0001F600\t\r\n\x7F\u00AD";
  Ids bytes;
  for (const char c : text) bytes.push_back(static_cast<uint8_t>(c));
  EXPECT_EQ(tokenizer.encode(text), bytes);
  EXPECT_EQ(tokenizer.decode(bytes), text);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\xFF\xE2\x82z")), "a\uFFFD\uFFFDz");
}

TEST(StreamDecoder, GivesWholeCharactersAndNothingElse) {
  const Tokenizer tokenizer = build(byte_level());
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push('b'),
            "\uFFFD"
            "b");
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.flush(), "");
  EXPECT_EQ(decoder.push('c'), "c");
}

TEST(StreamDecoder, GivesWhatDecodeGivesForAnyIds) {
  const Tokenizer tokenizer = build(byte_level());
  std::mt19937 random(3);
  std::uniform_int_distribution<int64_t> byte(0, 255);
  for (int trial = 0; trial < 300; ++trial) {
    Ids ids(static_cast<size_t>(trial % 40));
    for (int64_t& id : ids) id = byte(random);
    StreamDecoder decoder(tokenizer);
    std::string text, raw;
    for (const int64_t id : ids) {
      text += decoder.push(id);
      raw.push_back(static_cast<char>(id));
    }
    EXPECT_EQ(text + decoder.flush(), tokenizer.decode(ids));
  }
}

TEST(Tokenizer, EncodesAMegabyteInASecondOrTwo) {
  const Tokenizer tokenizer = build(byte_level());
  std::string text;
  while (text.size() < 1'000'000) text += "The quick brown fox 123 jumps; ";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(tokenizer.encode(text).size(), text.size());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));  // sanitizers
}

// Folders --------------------------------------------------------------------

TEST(TokenizerFolder, ReadsRolesTemplateAndStops) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "tokenizer.json", small().dump());
  test::write_file(folder / "tokenizer_config.json",
                   R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}, "add_bos_token": true,
                       "chat_template": [{"name": "tool", "template": "T"},
                                         {"name": "default", "template": "D"}]})");
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [1, 7, 500]})");
  Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.stop_ids(), (Ids{1, 7}));
  EXPECT_EQ(tokenizer.chat_template(), "D");
  EXPECT_EQ(tokenizer.encode("ab", {.add_special = true}), (Ids{0, 6}));
  std::filesystem::create_directory(folder / "additional_chat_templates");
  test::write_file(folder / "additional_chat_templates" / "default.jinja", "A");
  EXPECT_EQ(Tokenizer::load(folder.path()).chat_template(), "A");
  test::write_file(folder / "chat_template.jinja", "J");
  EXPECT_EQ(Tokenizer::load(folder.path()).chat_template(), "J");
}

TEST(TokenizerFolder, TemplatesWithoutADefaultAreRefusedWhereOneIsAsked) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "tokenizer.json", small().dump());
  for (const char* templates : {"[]", R"([{"name": "rag", "template": "R"}])"}) {
    test::write_file(folder / "tokenizer_config.json",
                     std::string(R"({"chat_template": )") + templates + "}");
    const Tokenizer tokenizer = Tokenizer::load(folder.path());
    EXPECT_NE(tokenizer.chat_template().find("raise_exception"), std::string::npos) << templates;
  }
}

TEST(TokenizerFolder, IdsOfPaddingRowsHaveNoText) {
  const test::TemporaryFolder folder;
  json config = small();
  config["added_tokens"][2]["id"] = 9;  // 7 and 8 are holes
  test::write_file(folder / "tokenizer.json", config.dump());
  test::write_file(folder / "config.json", R"({"vocab_size": 12})");
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.ids_without_token(12), (Ids{7, 8, 10, 11}));
  EXPECT_EQ(tokenizer.ids_without_token(4), Ids{});
  EXPECT_EQ(tokenizer.decode({2, 7, 10, 3, 11, 9, 8}), "ab<call>");
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(11) + decoder.push(2) + decoder.push(8) + decoder.flush(), "a");
  for (const int64_t id : {int64_t{-1}, int64_t{12}}) {
    EXPECT_THROW(tokenizer.decode({id}), c10::ValueError);
    EXPECT_THROW(tokenizer.id_to_token(id), c10::ValueError);
  }
  EXPECT_THROW(tokenizer.id_to_token(7), c10::ValueError);
  test::write_file(folder / "config.json", R"({"vocab_size": "many"})");
  EXPECT_THROW(Tokenizer::load(folder.path()), FormatError);
}

// As transformers adds them, and as it lets those of the configuration replace the file's own.
TEST(TokenizerFolder, TokensBesideTheFileAreAdded) {
  const test::TemporaryFolder folder;
  test::write_file(folder / "tokenizer.json", small().dump());
  const auto id = [&](const char* token) {
    return Tokenizer::load(folder.path()).token_to_id(token).value_or(-1);
  };
  const int64_t call = id("<call>");
  EXPECT_EQ(id("<extra>"), -1);
  test::write_file(folder / "tokenizer_config.json",
                   R"({"added_tokens_decoder": {"20": {"content": "<extra>", "special": true},
                                                "21": {"content": "<call>", "rstrip": true}}})");
  test::write_file(folder / "added_tokens.json", R"({"<more>": 22, "<extra>": 23})");
  EXPECT_EQ(id("<extra>"), 20);
  EXPECT_EQ(id("<more>"), 22);
  EXPECT_EQ(id("<call>"), call) << "an id of the file stays";
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  EXPECT_EQ(tokenizer.encode("<call> <extra><more>", {.parse_special = true}), (Ids{call, 20, 22}));
}

TEST(TokenizerFolder, SavesCopiesOfItsFiles) {
  const test::TemporaryFolder from, to;
  test::write_file(from / "tokenizer.json", small().dump(3));
  test::write_file(from / "tokenizer_config.json", R"({"eos_token": "</s>"})");
  const Tokenizer tokenizer = Tokenizer::load(from.path());
  tokenizer.save(to.path());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_EQ(test::read_file(to / name), test::read_file(from / name));
  }
  EXPECT_EQ(Tokenizer::load(to.path()).encode("<s>abc"), tokenizer.encode("<s>abc"));
}

TEST(TokenizerFolder, RefusesWhatIsNotThere) {
  const test::TemporaryFolder folder;
  EXPECT_THROW(Tokenizer::load(folder.path()), FormatError);
  EXPECT_THROW(Tokenizer::load(folder / "missing"), c10::ValueError);
  test::write_file(folder / "model.bin", "x");
  EXPECT_THROW(Tokenizer::load(folder / "model.bin"), c10::ValueError);
}

TEST(TokenizerFolder, RefusesABrokenSentencePieceModel) {
  for (const std::string& bytes :
       {std::string(), std::string("garbage"), std::string("\x0a\x03\x0a\x01", 4),
        std::string(1000, '\xFF'), std::string("\x1a\x02\x18\x01", 4)}) {
    const test::TemporaryFolder folder;
    test::write_file(folder / "tokenizer.model", bytes);
    EXPECT_THROW(Tokenizer::load(folder.path()), FormatError) << bytes;
  }
}

// Hostile files --------------------------------------------------------------

void expect_refused(const std::string& text, const std::string& reason) {
  try {
    Tokenizer::from_json(text);
    FAIL() << "accepted " << text.substr(0, 200);
  } catch (const FormatError& e) {
    const std::string message = e.what();
    EXPECT_NE(message.find(reason), std::string::npos) << message;
    EXPECT_NE(message.find("tokenizer.json"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }
}

void expect_refused(const char* key, const json& value, const std::string& reason) {
  json config = small();
  config[json::json_pointer(key)] = value;
  expect_refused(config.dump(), reason);
}

TEST(HostileTokenizerJson, IsRefusedInOneLine) {
  expect_refused("", "");
  expect_refused("[]", "expected an object");
  expect_refused("{}", "\"model\"");
  expect_refused("{\"model\": {}}", "\"vocab\"");
  expect_refused("{\"model\": {\"vocab\": {}, \"vocab\": {}}}", "");  // a key twice
  expect_refused("{\"model\": {\"vocab\": {\"\xFF\": 0}}}", "");      // not UTF-8
  expect_refused(std::string(100'000, '['), "");
  expect_refused("/model/type", "Unigram", "\"Unigram\" is not supported");
  expect_refused("/model/vocab/x", 3, "one token for id 3");
  expect_refused("/normalizer", {{"type", "Precompiled"}}, "\"Precompiled\" is not supported");
  expect_refused("/normalizer", {{"type", "Prepend"}}, "\"prepend\"");
  expect_refused("/normalizer", "NFC", "expected an object");
  expect_refused("/pre_tokenizer", {{"type", "BertPreTokenizer"}}, "\"BertPreTokenizer\"");
  expect_refused("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", 1}}, "array");
  expect_refused("/pre_tokenizer",
                 {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}},
                 "regular expression");
  expect_refused("/pre_tokenizer",
                 {{"type", "Split"}, {"pattern", {{"String", ""}}}, {"behavior", "Isolated"}},
                 "empty");
  expect_refused("/pre_tokenizer",
                 {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Sideways"}},
                 "\"Sideways\"");
  expect_refused("/pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", "last"}}, "\"last\"");
  expect_refused("/decoder", {{"type", "CTC"}}, "\"CTC\" is not supported");
  expect_refused("/decoder", {{"type", "Strip"}, {"content", " "}, {"start", -1}, {"stop", 0}},
                 "0 or more");
  expect_refused("/post_processor", {{"type", "Other"}}, "\"Other\" is not supported");
  expect_refused("/added_tokens/0/id", 5, "one token for id 5");
  expect_refused("/added_tokens/0/content", "x", "one token for id 0");
  expect_refused("/added_tokens/2/content", "ab", "one id for \"ab\"");
  expect_refused("/added_tokens/2/content", "", "empty string");
  expect_refused("/added_tokens/2/id", int64_t{1} << 60, "expected ids");
  expect_refused("/added_tokens/2", {{"id", 9}, {"content", "<s>"}}, "one id for \"<s>\"");
}

TEST(HostileTokenizerJson, StopsAPatternThatTakesForever) {
  json config = small();
  config["pre_tokenizer"] = {{"type", "Split"},
                             {"pattern", {{"Regex", "(?:a|aa)+$|(a+)+b"}}},
                             {"behavior", "Isolated"},
                             {"invert", false}};
  const Tokenizer tokenizer = build(config);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THROW(tokenizer.encode(std::string(3000, 'a') + "c"), FormatError);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

}  // namespace
}  // namespace schmidt::text
