#include "schmidt/text/gguf_keys.h"

#include <cstring>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_config.h"
#include "schmidt/io/gguf_writer.h"
#include "schmidt/text/byte_level_kinds.h"
#include "schmidt/text/tokenizer.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::text {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::string kTexts[] = {
    "Hello world, it's 12345 o'clock",
    "  two  spaces\n\n\tand more   ",
    "naïve façade — 東京 🙂",
    "<|im_start|>user\nHi<|im_end|>\n",
    "",
};

/// A file of SentencePiece's, field by field.
class Proto {
 public:
  Proto& varint(int field, uint64_t value) {
    number(static_cast<uint64_t>(field) << 3);
    number(value);
    return *this;
  }
  Proto& text(int field, const std::string& value) {
    number(static_cast<uint64_t>(field) << 3 | 2);
    number(value.size());
    bytes += value;
    return *this;
  }
  Proto& real(int field, float value) {
    number(static_cast<uint64_t>(field) << 3 | 5);
    char raw[4];
    std::memcpy(raw, &value, 4);
    bytes.append(raw, 4);
    return *this;
  }
  std::string bytes;

 private:
  void number(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes += static_cast<char>((value & 127) | 128);
    bytes += static_cast<char>(value);
  }
};

/// Of Llama 2's kind: unknown, BOS, EOS, 256 bytes, letters, and what merges make.
std::string sentencepiece_model(uint64_t type = 2) {
  Proto model;
  const auto piece = [&](const std::string& text, float score, uint64_t kind) {
    model.text(1, Proto().text(1, text).real(2, score).varint(3, kind).bytes);
  };
  piece("<unk>", 0, 2);
  piece("<s>", 0, 3);
  piece("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) piece(fmt::format("<0x{:02X}>", byte), 0, 6);
  float score = 0;
  for (const char* token :
       {"he", "ll", "hell", "\u2581w", "or", "\u2581wor", "ld", "\u2581world"}) {
    piece(token, score -= 1, 1);
  }
  for (const char* token : {"\u2581", "h", "e", "l", "o", "w", "r", "d"}) {
    piece(token, score -= 1, 1);
  }
  model.text(2, Proto().varint(3, type).varint(35, 1).bytes);
  model.text(3, Proto().text(1, "identity").varint(3, 1).varint(4, 0).varint(5, 1).bytes);
  return model.bytes;
}

class GgufKeysTest : public testing::Test {
 protected:
  GgufKeysTest() { fs::create_directory(folder); }

  /// The tokenizer of a GGUF file with these keys.
  Tokenizer through_gguf(int64_t rows) {
    io::GgufWriter(tmp / "t.gguf", gguf_keys(folder, rows), {}).finish();
    return Tokenizer::load(tmp / "t.gguf");
  }

  void expect_same(const Tokenizer& before, const Tokenizer& after) {
    for (const std::string& text : kTexts) {
      for (const bool special : {false, true}) {
        const EncodeOptions options{.add_special = special};
        const auto ids = before.encode(text, options);
        EXPECT_EQ(after.encode(text, options), ids) << text;
        EXPECT_EQ(after.decode(ids), before.decode(ids)) << text;
      }
    }
    EXPECT_EQ(after.bos_id(), before.bos_id());
    EXPECT_EQ(after.eos_id(), before.eos_id());
    EXPECT_EQ(after.stop_ids(), before.stop_ids());
    EXPECT_EQ(after.chat_template(), before.chat_template());
  }

  void edit_tokenizer(const std::function<void(json&)>& edit) {
    json tokenizer = json::parse(test::read_file(folder / "tokenizer.json"));
    edit(tokenizer);
    test::write_file(folder / "tokenizer.json", tokenizer.dump());
  }

  test::TemporaryFolder tmp;
  fs::path folder = tmp / "m";
};

TEST_F(GgufKeysTest, ByteLevelBpeGivesTheSameIdsThroughAGguf) {
  test::write_byte_tokenizer(folder, {.merges = {"h e", "l l", "he ll", "Ġ w", "o r"}});
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [2, 0]})");
  const Tokenizer before = Tokenizer::load(folder);
  const Tokenizer after = through_gguf(300);
  expect_same(before, after);
  EXPECT_EQ(after.stop_ids(), (std::vector<int64_t>{0, 2}));
  const auto keys = gguf_keys(folder, 300);
  EXPECT_EQ(std::get<std::string>(keys.at("tokenizer.ggml.pre").data), "gpt-2");
  const auto& tokens = std::get<std::vector<std::string>>(keys.at("tokenizer.ggml.tokens").data);
  const auto& types = std::get<std::vector<int64_t>>(keys.at("tokenizer.ggml.token_type").data);
  ASSERT_EQ(tokens.size(), 300U);
  EXPECT_EQ(tokens[299], "[PAD299]");
  EXPECT_EQ(types[299], 5);
  EXPECT_EQ(types[1], 3);
  EXPECT_EQ(types[50], 1);
}

TEST_F(GgufKeysTest, ThreeStopsPassThroughAGguf) {
  test::write_byte_tokenizer(folder);
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [2, 0, 1]})");
  const Tokenizer before = Tokenizer::load(folder);
  const Tokenizer after = through_gguf(264);
  EXPECT_EQ(after.eos_id(), 2);
  EXPECT_EQ(after.stop_ids(), (std::vector<int64_t>{0, 1, 2}));
  EXPECT_EQ(after.stop_ids(), before.stop_ids());
  const io::GgufFile file = io::GgufFile::open(tmp / "t.gguf");
  EXPECT_EQ(file.get_int("tokenizer.ggml.eot_token_id"), 0);
  EXPECT_EQ(file.get_int("tokenizer.ggml.eom_token_id"), 1);
  EXPECT_EQ(io::generation_config_from_gguf(file).at("eos_token_id"), (json{2, 0, 1}));
}

// Llama 3's: of the two the end of a message has the lower id.
TEST_F(GgufKeysTest, TheEndOfAMessageIsKnownByItsText) {
  test::write_byte_tokenizer(folder);
  edit_tokenizer([](json& t) {
    for (const auto& [id, text] : {std::pair{264, "<|eom_id|>"}, {265, "<|eot_id|>"}}) {
      t["added_tokens"].push_back({{"id", id}, {"content", text}, {"special", true}});
    }
  });
  test::write_file(folder / "generation_config.json", R"({"eos_token_id": [2, 264, 265]})");
  const auto keys = gguf_keys(folder, 266);
  EXPECT_EQ(std::get<int64_t>(keys.at("tokenizer.ggml.eos_token_id").data), 2);
  EXPECT_EQ(std::get<int64_t>(keys.at("tokenizer.ggml.eot_token_id").data), 265);
  EXPECT_EQ(std::get<int64_t>(keys.at("tokenizer.ggml.eom_token_id").data), 264);
}

// Every way of cutting words that llama.cpp has a name for, as a tokenizer.json says it.
TEST_F(GgufKeysTest, WaysOfCuttingWordsKeepTheirNames) {
  for (const std::string name : {"gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "mpt",
                                 "stablelm2", "dbrx", "deepseek-v3"}) {
    const ByteLevelKind& kind = *find_byte_level_kind(name);
    json tokenizer = byte_level_tokenizer(kind, json::object(), json::array());
    EXPECT_EQ(byte_level_kind_name(tokenizer), name);
  }
  // As tokenizers writes them: other offsets, a sequence of one, keys left out.
  EXPECT_EQ(
      byte_level_kind_name(
          {{"pre_tokenizer",
            {{"type", "Sequence"},
             {"pretokenizers",
              {{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}}}}}},
           {"normalizer", {{"type", "Sequence"}, {"normalizers", json::array()}}},
           {"model", {{"type", "BPE"}}}}),
      "gpt-2");
  EXPECT_EQ(byte_level_kind_name({{"pre_tokenizer", {{"type", "Whitespace"}}}}), std::nullopt);
}

TEST_F(GgufKeysTest, WhatHasNoNameIsRefused) {
  const auto refused = [&](const std::string& part, int64_t rows = 264) {
    try {
      gguf_keys(folder, rows);
      ADD_FAILURE() << "expected a refusal: " << part;
    } catch (const FormatError& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
  };
  refused("tokenizer.json");
  test::write_byte_tokenizer(folder);
  refused("at most 100 tokens", 100);
  edit_tokenizer([](json& t) { t["normalizer"] = {{"type", "Lowercase"}}; });
  refused("pre_tokenizer");
  test::write_byte_tokenizer(folder);
  edit_tokenizer([](json& t) { t["pre_tokenizer"]["add_prefix_space"] = true; });
  refused("pre_tokenizer");
}

TEST_F(GgufKeysTest, SentencePieceGivesTheSameIdsThroughAGguf) {
  test::write_file(folder / "tokenizer.model", sentencepiece_model());
  test::write_file(folder / "tokenizer_config.json",
                   R"({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
                       "add_bos_token": true, "added_tokens_decoder": {
                       "275": {"content": "<|im_start|>", "special": true}}})");
  const Tokenizer before = Tokenizer::load(folder);
  const Tokenizer after = through_gguf(280);
  for (const std::string text : {"hello world", "hell or world", "  x\n", "dé"}) {
    EXPECT_EQ(after.encode(text), before.encode(text)) << text;
  }
  EXPECT_EQ(after.encode("hello", {.add_special = true}),
            before.encode("hello", {.add_special = true}));
  EXPECT_EQ(after.encode("<|im_start|>"), (std::vector<int64_t>{275}));
  EXPECT_EQ(after.bos_id(), 1);
  EXPECT_EQ(after.eos_id(), 2);
  test::write_file(folder / "tokenizer.model", sentencepiece_model(1));
  EXPECT_THROW(gguf_keys(folder, 280), FormatError);
}

// What a model of such a GGUF file becomes in a Hugging Face folder: scores are merges there.
TEST_F(GgufKeysTest, ATokenizerOfSentencePieceInJsonGivesTheSameIdsThroughAGguf) {
  test::write_file(folder / "tokenizer.model", sentencepiece_model());
  test::write_file(folder / "tokenizer_config.json",
                   R"({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": true})");
  const Tokenizer before = through_gguf(280);
  fs::remove_all(folder);
  fs::create_directory(folder);
  before.save(folder);
  ASSERT_FALSE(fs::exists(folder / "tokenizer.model"));
  const Tokenizer after = through_gguf(280);
  for (const std::string text : {"hello world", "hell or world", "  x\n", "dé", "</s>held"}) {
    EXPECT_EQ(after.encode(text), before.encode(text)) << text;
    EXPECT_EQ(after.decode(after.encode(text)), before.decode(before.encode(text))) << text;
  }
  EXPECT_EQ(after.stop_ids(), before.stop_ids());
  const auto keys = gguf_keys(folder, 280);
  const auto& types = std::get<std::vector<int64_t>>(keys.at("tokenizer.ggml.token_type").data);
  EXPECT_EQ(types[0], 2);
  EXPECT_EQ(types[1], 3);
  EXPECT_EQ(types[3], 6);

  // As Gemma has it: nothing is left to split at.
  edit_tokenizer([](json& t) {
    const json space = {{"String", " "}};
    t["normalizer"] = {{"type", "Replace"}, {"pattern", space}, {"content", "\u2581"}};
    t["pre_tokenizer"] = {{"type", "Split"},
                          {"pattern", space},
                          {"behavior", "MergedWithPrevious"},
                          {"invert", false}};
  });
  EXPECT_EQ(through_gguf(280).encode(" hello world"),
            Tokenizer::load(folder).encode(" hello world"));

  // As Metaspace says it, and what cannot be said by scores.
  edit_tokenizer([](json& t) {
    t["normalizer"] = nullptr;
    t["pre_tokenizer"] = {{"type", "Metaspace"},
                          {"replacement", "\u2581"},
                          {"prepend_scheme", "first"},
                          {"split", false}};
  });
  EXPECT_EQ(through_gguf(280).encode("hello world"), before.encode("hello world"));
  edit_tokenizer([](json& t) { std::swap(t["model"]["merges"][0], t["model"]["merges"][2]); });
  EXPECT_EQ(gguf_keys(folder, 280).count("tokenizer.ggml.scores"), 1U);
  edit_tokenizer([](json& t) { t["model"]["merges"].erase(1); });
  EXPECT_THROW(gguf_keys(folder, 280), FormatError);
}

}  // namespace
}  // namespace schmidt::text
