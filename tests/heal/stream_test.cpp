#include "schmidt/heal/stream.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

using Ids = std::vector<int64_t>;

class StreamTest : public testing::Test {
 protected:
  StreamTest() : tokenizer_(byte_tokenizer()) {}

  static text::Tokenizer byte_tokenizer() {
    const test::TemporaryFolder folder;
    test::write_byte_tokenizer(folder.path());
    return text::Tokenizer::load(folder.path());
  }

  std::filesystem::path write(const std::string& name, const std::string& content) {
    test::write_file(tmp_ / name, content);
    return tmp_ / name;
  }

  /// Lines of 1 to `longest` letters, every one different.
  std::filesystem::path write_lines(const std::string& name, int lines, int longest,
                                    char letter = 'a') {
    std::mt19937_64 random(7);
    std::string content;
    for (int i = 0; i < lines; ++i) {
      std::string text = letter + std::to_string(i);
      while (random() % static_cast<uint64_t>(longest) > text.size()) {
        text += static_cast<char>(letter + random() % 8);
      }
      content += R"({"text": ")" + text + "\"}\n";
    }
    return write(name, content);
  }

  Stream stream(const std::vector<Source>& sources, const StreamOptions& options) {
    return Stream(sources, tokenizer_, "llama", options);
  }

  std::string error(const std::vector<Source>& sources, const StreamOptions& options) {
    try {
      stream(sources, options);
    } catch (const FormatError& e) {
      return e.what();
    }
    return "";
  }

  /// Which of the files whose letters begin with a, i and q.
  int source_of(const Ids& ids) const {
    const std::string text = tokenizer_.decode(ids);
    const auto letter = std::find_if(text.begin(), text.end(), [](char c) { return c >= 'a'; });
    return (*letter - 'a') / 8;
  }

  test::TemporaryFolder tmp_;
  text::Tokenizer tokenizer_;
};

/// The segments of a batch as ids, row after row.
std::vector<Ids> segments_of(const Batch& batch) {
  std::vector<Ids> all;
  for (int64_t r = 0; r < batch.ids.size(0); ++r) {
    int64_t last = -1;
    for (int64_t t = 0; t < batch.ids.size(1); ++t) {
      const auto segment = batch.segments[r][t].item<int64_t>();
      if (segment < 0) break;
      if (segment != std::exchange(last, segment)) all.emplace_back();
      all.back().push_back(batch.ids[r][t].item<int64_t>());
    }
  }
  return all;
}

bool same(const Batch& a, const Batch& b) {
  return torch::equal(a.ids, b.ids) && torch::equal(a.segments, b.segments) &&
         torch::equal(a.targets, b.targets);
}

TEST_F(StreamTest, EverySegmentIsAWholeExampleAndAnEpochHasEachOnce) {
  const auto file = write_lines("a.jsonl", 200, 60);
  std::multiset<Ids> expected;
  DocumentFile documents(file, {});
  for (int64_t i = 0; i < documents.size(); ++i) {
    const Example example = make_example(tokenizer_, "llama", documents.read(i), LossOn::kAll);
    for (const Example& w : windows_of(example, 32)) expected.insert(w.ids);
  }
  Stream s = stream({{file}}, {.context = 32});
  std::multiset<Ids> seen;
  // What is still pending when the next epoch begins is the rest of the first.
  while (s.epochs() <= 1.0) {
    for (const Ids& ids : segments_of(s.next(1))) seen.insert(ids);
  }
  for (const Ids& ids : seen) {
    EXPECT_TRUE(expected.contains(ids)) << tokenizer_.decode(ids);
    EXPECT_LE(seen.count(ids), expected.count(ids)) << tokenizer_.decode(ids);
  }
  EXPECT_GE(seen.size() + 64, expected.size());
  for (int i = 0; i < 64; ++i) {
    for (const Ids& ids : segments_of(s.next(1))) seen.insert(ids);
  }
  for (const Ids& ids : expected) EXPECT_TRUE(seen.contains(ids)) << tokenizer_.decode(ids);
}

TEST_F(StreamTest, TargetsFollowTheirTokens) {
  std::string content;
  for (int i = 0; i < 40; ++i) {
    content += R"({"data": ["question )" + std::to_string(i) + R"(", "the answer"]})" + "\n";
  }
  Stream s = stream({{write("a.jsonl", content)}}, {.context = 128, .loss_on = LossOn::kAssistant});
  const Batch batch = s.next(4);
  for (int64_t r = 0; r < 4; ++r) {
    Ids learned;
    for (int64_t t = 0; t < 128; ++t) {
      const auto target = batch.targets[r][t].item<int64_t>();
      if (target == kNoTarget) continue;
      EXPECT_EQ(target, batch.ids[r][t + 1].item<int64_t>());
      EXPECT_EQ(batch.segments[r][t].item<int64_t>(), batch.segments[r][t + 1].item<int64_t>());
      learned.push_back(target);
    }
    std::string expected;
    for (int64_t i = 0; i <= batch.segments[r].max().item<int64_t>(); ++i) {
      expected += "the answer<|im_end|>";
    }
    EXPECT_EQ(tokenizer_.decode(learned), expected);
  }
}

TEST_F(StreamTest, FollowsTheSeed) {
  const auto file = write_lines("a.jsonl", 300, 60);
  const auto first = [&](uint64_t seed) {
    return stream({{file}}, {.context = 64, .seed = seed}).next(4);
  };
  EXPECT_TRUE(same(first(3), first(3)));
  EXPECT_FALSE(same(first(3), first(4)));
  EXPECT_FALSE(same(first(3), first(3 + (uint64_t{1} << 32))));
}

TEST_F(StreamTest, EveryEpochHasItsOwnOrder) {
  const auto file = write_lines("a.jsonl", 64, 20);
  Stream s = stream({{file}}, {.context = 20});  // the 64 pending are an epoch
  const Batch first = s.next(8), second = [&] {
    while (s.epochs() < 2.0) s.next(1);
    return s.next(8);
  }();
  EXPECT_FALSE(torch::equal(first.ids, second.ids));
}

TEST_F(StreamTest, ContinuesFromAnyState) {
  std::string plain;
  for (int i = 0; i < 400; ++i) plain += "line " + std::to_string(i * i) + "\n";
  const std::vector<Source> sources = {{write_lines("a.jsonl", 50, 200), 2.0},
                                       {write("b.txt", plain), 1.0}};
  const StreamOptions options = {.context = 48, .seed = 5, .held_out = 3};
  Stream original = stream(sources, options);
  Stream restored = stream(sources, options);
  for (int round = 0; round < 12; ++round) {
    // Through the text that a checkpoint holds.
    restored.restore(nlohmann::json::parse(original.state().dump()));
    EXPECT_EQ(restored.state(), original.state());
    for (int i = 0; i < 3; ++i) {
      EXPECT_TRUE(same(restored.next(round % 3 + 1), original.next(round % 3 + 1)));
    }
    EXPECT_EQ(restored.tokens(), original.tokens());
    EXPECT_EQ(restored.epochs(), original.epochs());
    for (int i = 0; i < round; ++i) original.next(5);
  }
  EXPECT_GT(original.epochs(), 1.0);
  EXPECT_LT(original.state().dump().size(), 4000u) << "places, no texts";
}

TEST_F(StreamTest, RefusesStatesOfOthersAndBrokenOnes) {
  const auto file = write_lines("a.jsonl", 50, 60), other = write_lines("b.jsonl", 51, 60);
  Stream s = stream({{file}}, {.context = 32});
  const nlohmann::json state = s.state();
  const std::vector<Stream> others = [&] {
    std::vector<Stream> all;
    all.push_back(stream({{other}}, {.context = 32}));
    all.push_back(stream({{file}, {file}}, {.context = 32}));
    all.push_back(stream({{file, 2.0}}, {.context = 32}));
    all.push_back(stream({{file}}, {.context = 33}));
    all.push_back(stream({{file}}, {.context = 32, .seed = 1}));
    all.push_back(stream({{file}}, {.context = 32, .held_out = 1}));
    all.push_back(stream({{file}}, {.context = 32, .loss_on = LossOn::kAssistant}));
    return all;
  }();
  for (const Stream& o : others) {
    EXPECT_NE(o.fingerprint(), s.fingerprint());
    EXPECT_THROW(s.restore(o.state()), c10::ValueError);
  }
  EXPECT_THROW(s.restore({}), c10::ValueError);
  EXPECT_THROW(s.restore(nlohmann::json::array()), c10::ValueError);
  for (const char* key : {"tokens", "sources", "pending"}) {
    for (const nlohmann::json& bad :
         {nlohmann::json(-1), nlohmann::json("x"), nlohmann::json({{9, 9, 9}}),
          nlohmann::json({{{"epoch", 0}, {"position", 99}, {"window", 0}, {"given", 0}}})}) {
      nlohmann::json broken = state;
      broken[key] = bad;
      EXPECT_THROW(s.restore(broken), c10::ValueError) << key << bad;
      broken.erase(key);
      EXPECT_THROW(s.restore(broken), c10::ValueError) << key;
    }
  }
  EXPECT_EQ(s.state(), state) << "a refused state changes nothing";
}

TEST_F(StreamTest, SharesAreMet) {
  const std::vector<Source> sources = {{write_lines("a.jsonl", 90, 50, 'a'), 3.0},
                                       {write_lines("b.jsonl", 40, 150, 'i'), 1.0},
                                       {write_lines("c.jsonl", 700, 20, 'q'), 0.5}};
  Stream s = stream(sources, {.context = 64});
  std::map<int, double> tokens;
  double all = 0.0;
  while (s.tokens() < 40000) {
    for (const Ids& ids : segments_of(s.next(4))) {
      tokens[source_of(ids)] += static_cast<double>(ids.size());
      all += static_cast<double>(ids.size());
    }
  }
  EXPECT_NEAR(tokens[0] / all, 3.0 / 4.5, 0.02);
  EXPECT_NEAR(tokens[1] / all, 1.0 / 4.5, 0.02);
  EXPECT_NEAR(tokens[2] / all, 0.5 / 4.5, 0.02);
}

TEST_F(StreamTest, HeldOutRowsAreNeverTrainedOn) {
  const std::vector<Source> sources = {{write_lines("a.jsonl", 120, 60, 'a'), 3.0},
                                       {write_lines("b.jsonl", 120, 60, 'i'), 1.0}};
  Stream s = stream(sources, {.context = 64, .held_out = 8});
  const std::vector<Batch> held = s.held_out(3);
  ASSERT_EQ(held.size(), 3u);
  EXPECT_EQ(held[0].ids.size(0), 3);
  EXPECT_EQ(held[2].ids.size(0), 2);
  std::set<Ids> kept;
  for (const Batch& batch : held) {
    EXPECT_GT(batch.tokens(), batch.ids.numel() * 8 / 10);
    for (const Ids& ids : segments_of(batch)) kept.insert(ids);
  }
  // Six rows of the first file, two of the second.
  for (const Ids& ids : segments_of(held[1])) EXPECT_EQ(source_of(ids), 0);
  for (const Ids& ids : segments_of(held[2])) EXPECT_EQ(source_of(ids), 1);
  for (int i = 0; i < 120; ++i) {
    for (const Ids& ids : segments_of(s.next(2))) EXPECT_FALSE(kept.contains(ids));
  }
  EXPECT_GT(s.epochs(), 2.0);
  EXPECT_TRUE(same(held[1], s.held_out(3)[1])) << "the same at every time";
  EXPECT_TRUE(stream(sources, {.context = 64}).held_out(2).empty());
  EXPECT_THROW(stream(sources, {.context = 64, .held_out = 1000}), c10::ValueError);
}

TEST_F(StreamTest, BrokenLinesAreNamedOrSkipped) {
  const std::string good = "{\"text\": \"some text\"}\n";
  // The last has an order of roles that no family knows: ChatML takes any, an unknown role not.
  for (const std::string bad : {"{", R"({"messages": [{"role": "tool", "content": "x"}]})"}) {
    const auto file = write("a.jsonl", good + good + bad + "\n" + good);
    const std::string what = error({{file}}, {.context = 16});
    EXPECT_NE(what.find("a.jsonl: line 3: "), what.npos) << what;
    EXPECT_EQ(what.find('\n'), what.npos);
    Stream s = stream({{file}}, {.context = 16, .skip_bad = true});
    EXPECT_EQ(s.skipped(), 1);
    for (int i = 0; i < 20; ++i) s.next(2);
    EXPECT_EQ(s.skipped(), 1) << "counted once, not in every epoch";
  }
}

TEST_F(StreamTest, FilesWithNothingToLearnAreRefused) {
  const std::string silent = R"({"data": ["question", " "]})"
                             "\n";
  EXPECT_NE(error({{write("a.jsonl", silent + silent)}}, {.loss_on = LossOn::kAssistant})
                .find("expected an example with a token to be learned"),
            std::string::npos);
  EXPECT_EQ(error({{write("a.jsonl", silent)}}, {.loss_on = LossOn::kAll}), "");
  EXPECT_NE(error({{write("a.txt", "x")}}, {}).find("expected an example"), std::string::npos);
  EXPECT_NE(error({{write("a.txt", "")}}, {}), "");
  EXPECT_NE(error({{write("a.jsonl", "")}}, {}), "");
  EXPECT_NE(error({{write("a.txt", "caf\xe9")}}, {}).find("UTF-8"), std::string::npos);
  EXPECT_THROW(stream({{tmp_ / "absent.txt"}}, {}), SystemError);
}

TEST_F(StreamTest, RefusesOptionsOutOfRange) {
  const auto file = write_lines("a.jsonl", 50, 60);
  EXPECT_THROW(stream({}, {}), c10::ValueError);
  EXPECT_THROW(stream({{file}}, {.context = 1}), c10::ValueError);
  EXPECT_THROW(stream({{file}}, {.held_out = -1}), c10::ValueError);
  for (const double share : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_THROW(stream({{file, share}}, {}), c10::ValueError) << share;
  }
  EXPECT_THROW(stream({{file}}, {}).next(0), c10::ValueError);
  EXPECT_THROW(stream({{file}}, {.held_out = 1}).held_out(0), c10::ValueError);
}

TEST_F(StreamTest, AModelWithoutAChatFormatIsNotTheLinesFault) {
  test::write_byte_tokenizer(tmp_.path(), {.chat_template = "{{ unknown() }}"});
  const text::Tokenizer unknown = text::Tokenizer::load(tmp_.path());
  const auto file = write("a.jsonl", R"({"data": ["question", "answer"]})");
  EXPECT_THROW(Stream({{file}}, unknown, "llama", {.skip_bad = true}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
