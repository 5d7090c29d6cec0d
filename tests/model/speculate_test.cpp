#include "schmidt/model/speculate.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

/// A model, and drafts that are often right, never and always.
class Speculate : public testing::Test {
 protected:
  static Model load(test::TinyModel tiny, double noise) {
    torch::manual_seed(7);
    for (auto& [name, tensor] : tiny.tensors) {
      if (tensor.dim() == 2) tensor = tensor + noise * tensor.std() * torch::randn_like(tensor);
    }
    return Model::load(tiny.config, Weights(tiny.tensors, "tiny"));
  }

  Generation with_draft(const Model& draft_model, const GenerateOptions& options, int64_t proposals,
                        const TokenFn& on_token = {}) {
    draft_ = {.model = &draft_model, .proposals = proposals};
    KeptSequence kept;
    return generate(model_, prompt_, options, kept, draft_, on_token);
  }

  test::TinyModel tiny_ = test::make_tiny_model();
  Model model_ = load(tiny_, 0.0), close_ = load(tiny_, 0.05), far_ = load(tiny_, 10.0);
  GenerateOptions options_{.max_new_tokens = 40, .eos_ids = std::vector<int64_t>{}};
  std::vector<int64_t> prompt_ = {5, 6, 7, 9, 41};
  Draft draft_;
};

TEST_F(Speculate, SaysWhatTheModelAloneSays) {
  for (const double temperature : {0.0, 1.0}) {
    options_.sampling = {.repetition_penalty = 1.1, .temperature = temperature, .seed = 3};
    const Generation alone = generate(model_, {prompt_}, options_).at(0);
    for (const Model* draft : {&model_, &close_, &far_}) {
      for (const int64_t proposals : {1, 4, 7, 64}) {
        const Generation ahead = with_draft(*draft, options_, proposals);
        EXPECT_EQ(ahead.ids, alone.ids) << temperature << " " << proposals;
        EXPECT_EQ(ahead.finish, alone.finish);
      }
    }
  }
}

TEST_F(Speculate, ADraftThatAgreesIsAccepted) {
  for (const double temperature : {0.0, 1.0}) {  // it draws by the same random numbers
    options_.sampling = {.temperature = temperature, .seed = 3};
    with_draft(model_, options_, 4);
    EXPECT_EQ(draft_.accepted, draft_.proposed) << temperature;
    EXPECT_EQ(draft_.proposed, 32) << "eight rounds of four, each with a token of the model's own";
    with_draft(close_, options_, 4);
    const double close = static_cast<double>(draft_.accepted) / draft_.proposed;
    with_draft(far_, options_, 4);
    EXPECT_GT(close, static_cast<double>(draft_.accepted) / draft_.proposed);
  }
}

TEST_F(Speculate, ProposesNoMoreThanTheDraftIsSureOf) {
  const std::vector<int64_t> alone = generate(model_, {prompt_}, options_).at(0).ids;
  const auto proposed = [&](double least) {
    draft_ = {.model = &close_, .proposals = 8, .least_probability = least};
    KeptSequence kept;
    EXPECT_EQ(generate(model_, prompt_, options_, kept, draft_).ids, alone) << least;
    return draft_.proposed;
  };
  int64_t before = proposed(0.0);
  EXPECT_EQ(proposed(1e-9), before);
  for (const double least : {0.005, 0.01, 0.02, 0.05}) {
    const int64_t now = proposed(least);
    EXPECT_LE(now, before) << least;
    before = now;
  }
  EXPECT_EQ(proposed(1.0), 0);
  KeptSequence kept;
  draft_.least_probability = 1.5;
  EXPECT_THROW(generate(model_, prompt_, options_, kept, draft_), c10::ValueError);
}

TEST_F(Speculate, EndsAsTheModelAloneEnds) {
  const std::vector<int64_t> whole = generate(model_, {prompt_}, options_).at(0).ids;
  options_.eos_ids = {whole[9]};
  const Generation cut = generate(model_, {prompt_}, options_).at(0);
  const Generation ahead = with_draft(model_, options_, 4);
  EXPECT_EQ(ahead.ids, cut.ids);
  EXPECT_EQ(ahead.finish, FinishReason::kEos);

  options_.eos_ids = std::vector<int64_t>{};
  int64_t seen = 0;
  const Generation stopped =
      with_draft(model_, options_, 4, [&](int64_t, int64_t) { return ++seen < 6; });
  EXPECT_EQ(stopped.ids, std::vector<int64_t>(whole.begin(), whole.begin() + 6));
  EXPECT_EQ(stopped.finish, FinishReason::kStopped);

  options_.context = 12;
  EXPECT_EQ(with_draft(close_, options_, 4).ids,
            std::vector<int64_t>(whole.begin(), whole.begin() + 7));
}

TEST_F(Speculate, KeptSequencesServeTheNextPrompt) {
  draft_ = {.model = &close_};
  KeptSequence kept;
  std::vector<int64_t> prompt = prompt_;
  for (int turn = 0; turn < 3; ++turn) {
    const std::vector<int64_t> alone = generate(model_, {prompt}, options_).at(0).ids;
    EXPECT_EQ(generate(model_, prompt, options_, kept, draft_).ids, alone) << turn;
    prompt.insert(prompt.end(), alone.begin(), alone.begin() + 30);
    prompt.push_back(17 + turn);
  }
}

TEST_F(Speculate, ADraftOfAShorterContextHelpsAsFarAsItReaches) {
  test::TinyModel small = tiny_;
  small.config["max_position_embeddings"] = 16;
  const Model draft = load(small, 0.0);
  EXPECT_EQ(with_draft(draft, options_, 4).ids, generate(model_, {prompt_}, options_).at(0).ids);
  EXPECT_GT(draft_.accepted, 0);
  prompt_.assign(30, 8);
  EXPECT_EQ(with_draft(draft, options_, 4).ids, generate(model_, {prompt_}, options_).at(0).ids);
  EXPECT_EQ(draft_.proposed, 0);
}

TEST_F(Speculate, AnglesThatGrowWithTheLengthStayThoseOfSingleTokens) {
  tiny_.config["max_position_embeddings"] = 16;
  tiny_.config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 16.0}};
  const Model model = load(tiny_, 0.0);
  KeptSequence kept;
  draft_ = {.model = &model};
  EXPECT_EQ(generate(model, prompt_, options_, kept, draft_).ids,
            generate(model, {prompt_}, options_).at(0).ids);
  EXPECT_GT(draft_.accepted, 0);
}

TEST_F(Speculate, RefusesADraftOfOtherTokens) {
  test::TinyModel other = tiny_;
  other.config["vocab_size"] = 100;
  for (auto& [name, tensor] : other.tensors) {
    if (tensor.size(0) == tiny_.config["vocab_size"]) tensor = tensor.narrow(0, 0, 100);
  }
  const Model draft = load(other, 0.0);
  EXPECT_THROW(with_draft(draft, options_, 4), c10::ValueError);
  EXPECT_THROW(with_draft(model_, options_, 0), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
