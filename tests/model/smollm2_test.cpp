// SmolLM2 itself against transformers.

#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/generate.h"

#include "tests/support/support.h"

namespace schmidt::model {
namespace {

class SmolLm2 : public testing::Test {
 protected:
  void SetUp() override {
    SCHMIDT_REQUIRE_PATH(test::smollm2_path());
    truth_ = io::load_safetensors(test::oracle_dir() / "model" / "smollm2" / "truth.safetensors");
    model_ = Model::load(io::Checkpoint::open(test::smollm2_path()));
  }

  /// Those of transformers, of so many prompts at once.
  void expect_true_answers(const Model& model, size_t at_once) {
    const torch::Tensor lengths = truth_["prompt_lengths"];
    const torch::Tensor padded = truth_["prompts"];  // on the left
    std::vector<std::vector<int64_t>> prompts;
    for (int64_t i = 0; i < lengths.size(0); ++i) {
      const int64_t length = lengths[i].item<int64_t>();
      const torch::Tensor ids = padded[i].narrow(0, padded.size(1) - length, length).contiguous();
      prompts.emplace_back(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + length);
    }
    ASSERT_EQ(prompts.size(), 20);
    for (size_t begin = 0; begin < prompts.size(); begin += at_once) {
      const auto first = prompts.begin() + static_cast<std::ptrdiff_t>(begin);
      const std::vector<Generation> answers =
          generate(model, {first, first + static_cast<std::ptrdiff_t>(at_once)},
                   {.max_new_tokens = 64, .eos_ids = std::vector<int64_t>{}});
      for (size_t i = 0; i < at_once; ++i) {
        const torch::Tensor truth = truth_["answers"][static_cast<int64_t>(begin + i)].contiguous();
        const std::vector<int64_t> expected(truth.data_ptr<int64_t>(),
                                            truth.data_ptr<int64_t>() + truth.numel());
        EXPECT_EQ(answers[i].ids, expected) << "prompt " << begin + i;
      }
    }
  }

  std::map<std::string, torch::Tensor> truth_;
  std::optional<Model> model_;
};

TEST_F(SmolLm2, LogitsOfAText) {
  const at::NoGradGuard no_grad;
  const torch::Tensor hidden = model_->hidden(truth_["text_ids"])[0];  // [512, hidden]
  const torch::Tensor every_eighth = hidden.index({torch::indexing::Slice(0, c10::nullopt, 8)});
  const torch::Tensor difference = model_->logits(every_eighth) - truth_["text_logits"];
  EXPECT_LT(difference.abs().max().item<float>(), 1e-3);
}

TEST_F(SmolLm2, GreedyAnswersToTwentyPrompts) { expect_true_answers(*model_, 20); }

TEST_F(SmolLm2, TheSameWhereTheLikeliestTokensAreSearchedFor) {
  model_.reset();
  expect_true_answers(
      Model::load(io::Checkpoint::open(test::smollm2_path()), {.search_likeliest = true}), 4);
}

}  // namespace
}  // namespace schmidt::model
