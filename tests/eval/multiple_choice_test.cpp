#include "schmidt/eval/multiple_choice.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/eval/tasks.h"
#include "schmidt/io/json.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::eval {
namespace {

/// States after the final norm of each batch.
std::vector<torch::Tensor> read(const model::Model& model, const MultipleChoice& questions) {
  std::vector<torch::Tensor> hidden;
  for (const torch::Tensor& ids : questions.batches()) hidden.push_back(model.hidden(ids));
  return hidden;
}

class MultipleChoiceTest : public ::testing::Test {
 protected:
  MultipleChoiceTest()
      : model(model::Model::load(
            io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m")))) {
    test::write_byte_tokenizer(tmp / "m");
  }

  MultipleChoice encoded(const Task& task, const ChoiceOptions& options) const {
    return {task, questions, text::Tokenizer::load(tmp / "m"), options};
  }

  /// Sum of log p of the choice's tokens, one row at a time.
  double alone(const std::string& prompt, const std::string& choice) const {
    const auto ids = text::Tokenizer::load(tmp / "m").encode(prompt + choice);
    const torch::Tensor row = torch::tensor(ids).unsqueeze(0);
    const torch::Tensor log_p = torch::log_softmax(model.forward(row)[0].to(torch::kDouble), -1);
    double sum = 0;
    for (size_t i = ids.size() - choice.size(); i < ids.size(); ++i) {
      sum += log_p[static_cast<int64_t>(i) - 1][ids[i]].item<double>();
    }
    return sum;
  }

  test::TemporaryFolder tmp;
  model::Model model;
  std::vector<Question> questions = {{"Is it a b", {"yes", "no", "it may be so"}, 1},
                                     {"Q ", {"x", "yy"}, 0},
                                     {"A longer question than the others", {"1", "2"}, 1}};
};

TEST_F(MultipleChoiceTest, IsTheLikelihoodOfEachChoiceAloneWhateverTheBatch) {
  for (const int64_t batch : {1, 3, 100}) {
    const MultipleChoice choices = encoded(find_task("mmlu"), {.context = 100, .batch = batch});
    const auto found = choices.log_likelihoods(model, read(model, choices));
    ASSERT_EQ(found.size(), 3u);
    EXPECT_NEAR(found[0][0], alone("Is it a b", " yes"), 1e-4);
    EXPECT_NEAR(found[0][2], alone("Is it a b", " it may be so"), 1e-4);
    EXPECT_NEAR(found[1][0], alone("Q", "  x"), 1e-4);  // the prompt's space begins the choice
    EXPECT_NEAR(found[1][1], alone("Q", "  yy"), 1e-4);
    EXPECT_NEAR(found[2][1], alone("A longer question than the others", " 2"), 1e-4);
  }
}

TEST_F(MultipleChoiceTest, OfALongPromptTheBeginningIsCut) {
  const MultipleChoice choices = encoded(find_task("mmlu"), {.context = 20});
  const auto found = choices.log_likelihoods(model, read(model, choices));
  EXPECT_NEAR(found[2][0], alone("ion than the others", " 1"), 1e-4);
  EXPECT_THROW(encoded(find_task("mmlu"), {.context = 3}), c10::ValueError);
}

TEST_F(MultipleChoiceTest, AccuracyCountsByLengthWhereTheTaskDoes) {
  const std::vector<std::vector<double>> likely = {{-4, -5, -9}, {-2, -2}, {-3, -2}};
  EXPECT_NEAR(encoded(find_task("mmlu"), {}).accuracy(likely), 2.0 / 3, 1e-12);
  // 4/3, 5/2, 9/12; 2, 1; 3, 2 nats a character.
  EXPECT_NEAR(encoded(find_task("hellaswag"), {}).accuracy(likely), 1.0 / 3, 1e-12);
}

TEST(SmolLm2Tasks, LikelihoodsAreTransformers) {
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  const auto data = test::data_dir() / "benchmarks";
  SCHMIDT_REQUIRE_PATH(data);
  const auto truths = io::read_json(test::oracle_dir() / "tasks" / "smollm2.json");
  const auto model = model::Model::load(io::Checkpoint::open(test::smollm2_path()));
  const auto tokenizer = text::Tokenizer::load(test::smollm2_path());
  for (const char* name : {"mmlu", "hellaswag", "boolq"}) {
    const Task& task = find_task(name);
    const auto& truth = truths.at(name);
    const auto expected = truth.at("log_likelihoods").get<std::vector<std::vector<double>>>();
    auto asked = all_questions(task.read(
        data, {.limit = truth.at("limit"), .fewshot = truth.at("fewshot").get<int64_t>()}));
    asked.resize(expected.size());
    const MultipleChoice choices(task, asked, tokenizer, {});
    const auto found = choices.log_likelihoods(model, read(model, choices));
    for (size_t q = 0; q < expected.size(); ++q) {
      ASSERT_EQ(found[q].size(), expected[q].size());
      for (size_t c = 0; c < expected[q].size(); ++c) {
        EXPECT_NEAR(found[q][c], expected[q][c], 1e-3 + 1e-5 * std::abs(expected[q][c]))
            << task.name << " " << q << " " << c;
      }
    }
    EXPECT_NEAR(choices.accuracy(found), truth.at("accuracy").get<double>(), 1e-9) << task.name;
  }
}

}  // namespace
}  // namespace schmidt::eval
