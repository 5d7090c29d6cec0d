#include "schmidt/text/bpe.h"

#include <random>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

using nlohmann::json;
using Ids = std::vector<int64_t>;

const std::filesystem::path kPath = "test.json";

// A model with its parts alive.
struct Model {
  explicit Model(json config)
      : source(std::move(config)),
        vocabulary(JsonView(source.at("vocab"), kPath, "vocab")),
        bpe(JsonView(source, kPath), vocabulary) {}
  Ids encode(const std::string& word) const {
    Bpe::Cache cache;
    Ids ids;
    bpe.encode(word, cache, ids);
    return ids;
  }
  json source;
  Vocabulary vocabulary;
  Bpe bpe;
};

json letters() {
  return {{"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"bc", 4}, {"abc", 5}, {"aa", 6}}},
          {"merges", {"b c", "a b", "a bc", "a a"}}};
}

TEST(Bpe, MergesTheLowestRankFirst) {
  const Model model(letters());
  EXPECT_EQ(model.encode("abc"), Ids{5});
  EXPECT_EQ(model.encode("abab"), (Ids{3, 3}));
  EXPECT_EQ(model.encode("aaa"), (Ids{6, 0}));  // the leftmost of equals
  EXPECT_EQ(model.encode(""), Ids{});
}

TEST(Bpe, ReadsMergesAsPairsToo) {
  json config = letters();
  config["merges"] = json::array();
  for (const std::string merge : {"b c", "a b", "a bc", "a a"}) {
    config["merges"].push_back(json::array({merge.substr(0, 1), merge.substr(2)}));
  }
  EXPECT_EQ(Model(config).encode("abcaaa"), Model(letters()).encode("abcaaa"));
}

TEST(Bpe, TakesWholeWordsWhereMergesAreIgnored) {
  json config = letters();
  config["merges"] = json::array();
  EXPECT_EQ(Model(config).encode("abc"), (Ids{0, 1, 2}));
  config["ignore_merges"] = true;
  EXPECT_EQ(Model(config).encode("abc"), Ids{5});
}

TEST(Bpe, DropsOrMarksOrSpellsUnknownCharacters) {
  json config = letters();
  // What is dropped leaves neighbours behind.
  EXPECT_EQ(Model(config).encode("a\u00E9\u00E9"
                                 "b"),
            Ids{3});
  config["vocab"]["<unk>"] = 7;
  config["unk_token"] = "<unk>";
  EXPECT_EQ(Model(config).encode("a\u00E9\u00E9"
                                 "b"),
            (Ids{0, 7, 7, 1}));
  config["fuse_unk"] = true;
  EXPECT_EQ(Model(config).encode("a\u00E9\u00E9"
                                 "b"),
            (Ids{0, 7, 1}));
  for (int byte = 0; byte < 256; ++byte) {
    config["vocab"][fmt::format("<0x{:02X}>", byte)] = 100 + byte;
  }
  config["byte_fallback"] = true;
  EXPECT_EQ(Model(config).encode("\u00E9"), (Ids{100 + 0xC3, 100 + 0xA9}));
}

// The definition: again and again the leftmost pair of the lowest rank.
Ids merge_naively(const Model& model, const std::string& word) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  const json& merges = model.source.at("merges");
  while (true) {
    size_t best_rank = merges.size(), best = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (merges[rank] == parts[i] + " " + parts[i + 1]) best_rank = rank, best = i;
      }
    }
    if (best_rank == merges.size()) break;
    parts[best] += parts[best + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(model.vocabulary.id(part).value());
  return ids;
}

TEST(Bpe, AgreesWithTheDefinitionOnRandomModels) {
  std::mt19937 random(11);
  const auto draw = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  for (int trial = 0; trial < 20; ++trial) {
    std::vector<std::string> tokens{"a", "b", "c", "d"};
    json config = {{"vocab", json::object()}, {"merges", json::array()}};
    for (int i = 0; i < 25; ++i) {
      const std::string left = tokens[draw(tokens.size())], right = tokens[draw(tokens.size())];
      const std::string merge = left + " " + right;
      const json& merges = config["merges"];
      if (std::find(merges.begin(), merges.end(), merge) != merges.end()) continue;
      config["merges"].push_back(merge);
      if (std::find(tokens.begin(), tokens.end(), left + right) == tokens.end()) {
        tokens.push_back(left + right);
      }
    }
    for (const std::string& token : tokens) {
      config["vocab"][token] = config["vocab"].size();
    }
    const Model model(config);
    for (int i = 0; i < 100; ++i) {
      std::string word;
      for (size_t n = draw(14) + 1; n > 0; --n) word += static_cast<char>('a' + draw(4));
      ASSERT_EQ(model.encode(word), merge_naively(model, word)) << word << config["merges"];
    }
  }
}

TEST(Bpe, HandlesAWordOfAHundredThousandCharacters) {
  const Model model(letters());
  EXPECT_EQ(model.encode(std::string(100'000, 'a')).size(), 50'000u);
}

void expect_refused(const json& config, const std::string& reason) {
  try {
    const Model model(config);
    FAIL() << "accepted " << config;
  } catch (const FormatError& e) {
    EXPECT_NE(std::string(e.what()).find(reason), std::string::npos) << e.what();
  }
}

TEST(Bpe, RefusesBrokenModels) {
  const auto with = [](const char* key, json value) {
    json config = letters();
    config[key] = std::move(value);
    return config;
  };
  expect_refused(with("merges", {"a x"}), "\"x\" is not a token");
  expect_refused(with("merges", {"c a"}), "\"ca\" is not a token");
  expect_refused(with("merges", {"ab"}), "two tokens");
  expect_refused(with("merges", {"a b c"}), "two tokens");
  expect_refused(with("merges", {" a"}), "\"\" is not a token");
  expect_refused(with("merges", json::array({json::array({"a"})})), "two tokens");
  expect_refused(with("merges", json::array({7})), "expected an array");
  expect_refused(with("merges", "a b"), "expected an array");
  expect_refused(with("unk_token", "<unk>"), "\"<unk>\" is not a token");
  expect_refused(with("byte_fallback", true), "<0x00>");
  expect_refused(with("byte_fallback", 1), "expected a boolean");
  expect_refused(with("end_of_word_suffix", "</w>"), "not supported");
  expect_refused(with("vocab", {{"a", 0}, {"b", 0}}), "one token for id 0");
  expect_refused(with("vocab", {{"a", -1}}), "0 or more");
  expect_refused(with("vocab", {{"a", 1.5}}), "0 or more");
  expect_refused(with("vocab", {{"a", 4'000'000'000'000}}), "expected ids");
  expect_refused(with("vocab", json::array()), "expected an object");
}

}  // namespace
}  // namespace schmidt::text
