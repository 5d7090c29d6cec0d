#include "schmidt/model/generate.h"

#include <gtest/gtest.h>

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

using Prompts = std::vector<std::vector<int64_t>>;

class Generate : public testing::Test {
 protected:
  static Model load() {
    const test::TinyModel tiny = test::make_tiny_model();
    return Model::load(tiny.config, Weights(tiny.tensors, "tiny"));
  }
  // The likeliest next token, without a cache.
  int64_t next(std::vector<int64_t> ids) const {
    const torch::Tensor input = torch::tensor(ids, torch::kInt64).unsqueeze(0);
    return model_.forward(input)[0][-1].argmax().item<int64_t>();
  }
  Model model_ = load();
  GenerateOptions greedy_{.max_new_tokens = 12, .eos_ids = std::vector<int64_t>{}};
  Prompts prompts_ = {{5, 6, 7}, {9}, {200, 3, 77, 41, 11, 12, 13}};
};

TEST_F(Generate, GreedyTokensAreThoseOfTheWholeSequence) {
  const std::vector<Generation> answers = generate(model_, prompts_, greedy_);
  for (size_t i = 0; i < prompts_.size(); ++i) {
    std::vector<int64_t> sequence = prompts_[i];
    for (const int64_t id : answers[i].ids) {
      EXPECT_EQ(id, next(sequence));
      sequence.push_back(id);
    }
    EXPECT_EQ(answers[i].ids.size(), 12);
    EXPECT_EQ(answers[i].finish, FinishReason::kLength);
  }
}

// Dynamic scaling turns a prompt by the angles of its whole length: it is read in one piece,
// however many rows there are.
TEST_F(Generate, APromptThatDynamicScalingStretchesIsReadWhole) {
  test::TinyModel tiny = test::make_tiny_model();
  tiny.config["max_position_embeddings"] = 16;
  tiny.config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 16.0}};
  model_ = Model::load(tiny.config, Weights(tiny.tensors, "tiny"));
  Prompts prompts(64, {9});
  for (int64_t row = 0; row < 12; ++row) {
    prompts[row].clear();
    for (int64_t i = 0; i < 100; ++i) prompts[row].push_back((7 * i + 31 * row) % 264);
  }
  greedy_.max_new_tokens = 1;
  const std::vector<Generation> answers = generate(model_, prompts, greedy_);
  for (int64_t row = 0; row < 12; ++row) {
    EXPECT_EQ(answers[row].ids, (std::vector<int64_t>{next(prompts[row])})) << row;
  }
}

TEST_F(Generate, OtherPromptsDoNotChangeARow) {
  GenerateOptions options = greedy_;
  options.sampling = {.temperature = 1.0, .seed = 3};
  const std::vector<Generation> together = generate(model_, prompts_, options);
  EXPECT_EQ(generate(model_, {prompts_[0]}, options)[0].ids, together[0].ids);
  EXPECT_EQ(generate(model_, prompts_, options)[2].ids, together[2].ids);
  options.sampling.seed = 4;
  EXPECT_NE(generate(model_, prompts_, options)[0].ids, together[0].ids);
}

TEST_F(Generate, TheCallbackSeesEveryTokenAndMayStop) {
  std::vector<std::vector<int64_t>> seen(prompts_.size());
  const std::vector<Generation> answers =
      generate(model_, prompts_, greedy_, [&](int64_t row, int64_t id) {
        seen[row].push_back(id);
        return row != 1 || seen[row].size() < 4;
      });
  for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].ids, seen[i]);
  EXPECT_EQ(answers[1].ids.size(), 4);
  EXPECT_EQ(answers[1].finish, FinishReason::kStopped);
  EXPECT_EQ(answers[0].ids.size(), 12);
}

TEST_F(Generate, EndsAtAnEndOfTextWithoutIt) {
  const std::vector<int64_t> whole = generate(model_, {prompts_[0]}, greedy_)[0].ids;
  GenerateOptions options = greedy_;
  options.eos_ids = {whole[5]};
  const Generation cut = generate(model_, {prompts_[0]}, options)[0];
  const auto first = std::find(whole.begin(), whole.end(), whole[5]);
  EXPECT_EQ(cut.ids, std::vector<int64_t>(whole.begin(), first));
  EXPECT_EQ(cut.finish, FinishReason::kEos);
}

TEST_F(Generate, StopsWhereTheContextIsFull) {
  GenerateOptions options = greedy_;
  options.max_new_tokens = std::numeric_limits<int64_t>::max();
  options.context = 10;
  const std::vector<Generation> answers = generate(model_, prompts_, options);
  for (size_t i = 0; i < prompts_.size(); ++i) {
    EXPECT_EQ(answers[i].ids.size() + prompts_[i].size(), 10);
    EXPECT_EQ(answers[i].finish, FinishReason::kLength);
  }
}

TEST_F(Generate, NeverDrawsWhatItIsToldNotTo) {
  GenerateOptions options = greedy_;
  options.never_drawn = generate(model_, {prompts_[0]}, greedy_)[0].ids;  // the likeliest
  for (const double temperature : {0.0, 1.0, 50.0}) {
    options.sampling.temperature = temperature;
    for (const Generation& answer : generate(model_, prompts_, options)) {
      EXPECT_EQ(answer.ids.size(), 12);
      for (const int64_t id : answer.ids) {
        EXPECT_EQ(std::count(options.never_drawn.begin(), options.never_drawn.end(), id), 0) << id;
      }
    }
  }
  KeptSequence kept;
  options.sampling.temperature = 0.0;
  EXPECT_EQ(generate(model_, prompts_[1], options, kept).ids,
            generate(model_, {prompts_[1]}, options)[0].ids);
  options.never_drawn = {264};
  EXPECT_THROW(generate(model_, prompts_, options), c10::ValueError);
}

TEST_F(Generate, AKeptSequenceAnswersLikeAFreshOne) {
  GenerateOptions options = greedy_;
  options.sampling = {.repetition_penalty = 1.2, .temperature = 1.0, .seed = 9};
  KeptSequence kept;
  std::vector<int64_t> prompt = prompts_[2];
  const auto expect_same = [&](const std::vector<int64_t>& ids) {
    const Generation fresh = generate(model_, {ids}, options)[0];
    EXPECT_EQ(generate(model_, ids, options, kept).ids, fresh.ids);
    EXPECT_EQ(kept.ids.size(), ids.size() + fresh.ids.size());
    EXPECT_EQ(kept.cache->lengths()[0] + 1, kept.ids.size()) << "the last token was not run";
    return fresh.ids;
  };
  for (int turn = 0; turn < 4; ++turn) {  // 7 to 83 tokens: the cache grows on the way
    const std::vector<int64_t> answer = expect_same(prompt);
    prompt.insert(prompt.end(), answer.begin(), answer.end());
    prompt.insert(prompt.end(), {50 + turn, 51, 52, 53});
  }
  prompt[20] = 99;  // parts from what is kept in the middle
  expect_same(prompt);
  expect_same(prompt);                                // nothing new at all
  expect_same({prompt.begin(), prompt.begin() + 5});  // shorter
  expect_same(prompts_[0]);                           // nothing in common
  EXPECT_THROW(generate(model_, {264}, options, kept), c10::ValueError);
  expect_same(prompts_[0]);
}

TEST_F(Generate, AKeptSequenceIsNotComputedAgain) {
  KeptSequence kept;
  generate(model_, prompts_[2], greedy_, kept);
  const auto third = [&] {  // keys of the first layer
    return kept.cache->rows()[0][0]->keys[0].select(2, 2);
  };
  const torch::Tensor filled = torch::full_like(third(), 0.25);
  third().copy_(filled);
  generate(model_, kept.ids, greedy_, kept);
  EXPECT_TRUE(torch::equal(third(), filled));
  std::vector<int64_t> other = kept.ids;
  other[2] = 8;
  generate(model_, other, greedy_, kept);
  EXPECT_FALSE(torch::equal(third(), filled));
}

TEST_F(Generate, AKeptSequenceSurvivesAnException) {
  KeptSequence kept;
  const auto fail = [](int64_t, int64_t) -> bool { throw std::runtime_error("gone"); };
  EXPECT_THROW(generate(model_, prompts_[2], greedy_, kept, fail), std::runtime_error);
  const Generation fresh = generate(model_, {prompts_[2]}, greedy_)[0];
  EXPECT_EQ(generate(model_, prompts_[2], greedy_, kept).ids, fresh.ids);
}

TEST_F(Generate, RefusesPromptsAndOptionsThatDoNotFit) {
  EXPECT_THROW(generate(model_, {}, greedy_), c10::ValueError);
  EXPECT_THROW(generate(model_, {{1}, {}}, greedy_), c10::ValueError);
  EXPECT_THROW(generate(model_, {{264}}, greedy_), c10::ValueError);
  EXPECT_THROW(generate(model_, {{-1}}, greedy_), c10::ValueError);
  EXPECT_THROW(generate(model_, {std::vector<int64_t>(128, 1)}, greedy_), c10::ValueError);
  GenerateOptions options = greedy_;
  options.max_new_tokens = 0;
  EXPECT_THROW(generate(model_, prompts_, options), c10::ValueError);
  options = greedy_;
  options.context = 129;
  EXPECT_THROW(generate(model_, prompts_, options), c10::ValueError);
  options = greedy_;
  options.sampling.temperature = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THROW(generate(model_, prompts_, options), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
