#include "schmidt/eval/respondent.h"

#include <array>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/eval/tasks.h"
#include "schmidt/model/generate.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::eval {
namespace {

class RespondentTest : public ::testing::Test {
 protected:
  RespondentTest() : model(made(512)), tokenizer(text::Tokenizer::load(tmp / "m")) {}

  model::Model made(int64_t context) const {
    test::TinyModel tiny = test::make_tiny_model();
    tiny.config["max_position_embeddings"] = context;
    std::filesystem::remove_all(tmp / "m");
    test::write_model(tiny, tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    return model::Model::load(io::Checkpoint::open(tmp / "m"));
  }

  static std::vector<const Question*> pointers(const std::vector<Question>& questions) {
    std::vector<const Question*> all;
    for (const Question& question : questions) all.push_back(&question);
    return all;
  }

  std::vector<Response> ask(const char* task, const std::vector<Question>& questions) const {
    return ask(task, questions, model);
  }
  std::vector<Response> ask(const char* task, const std::vector<Question>& questions,
                            const model::Model& of) const {
    std::vector<Response> responses(questions.size());
    Respondent respondent(of, tokenizer);
    const auto all = pointers(questions);
    std::vector<int> answers(questions.size(), 0);
    respondent.ask(find_task(task), all, [&](const std::vector<Answered>& answered) {
      for (const auto& [place, response] : answered) {
        responses[place] = response;
        ++answers[place];
      }
    });
    EXPECT_EQ(answers, std::vector<int>(questions.size(), 1));
    return responses;
  }

  /// Sum of log p of the choice's tokens in a row of its own.
  double alone(const std::vector<int64_t>& prompt, const std::string& choice) const {
    std::vector<int64_t> ids = prompt;
    const auto own = tokenizer.encode(choice);
    ids.insert(ids.end(), own.begin(), own.end());
    const torch::Tensor row = torch::tensor(ids).unsqueeze(0);
    const torch::Tensor log_p = torch::log_softmax(model.forward(row)[0].to(torch::kDouble), -1);
    double sum = 0;
    for (size_t i = prompt.size(); i < ids.size(); ++i) {
      sum += log_p[static_cast<int64_t>(i) - 1][ids[i]].item<double>();
    }
    return sum;
  }
  double alone(const std::string& prompt, const std::string& choice) const {
    return alone(tokenizer.encode(prompt), choice);
  }

  test::TemporaryFolder tmp;
  model::Model model;
  text::Tokenizer tokenizer;
};

// Worked examples in common, choices that begin alike, prompts of each choice, no prompt.
TEST_F(RespondentTest, LikelihoodsAreThoseOfEachChoiceAlone) {
  const std::string shown =
      "Shown: one question that is longer than what is computed twice. Answer: yes\n\n";
  std::vector<Question> questions;
  for (int i = 0; i < 7; ++i) {
    questions.push_back({shown + "Question " + std::to_string(i * i) + "\nAnswer:",
                         {"yes", "yes it is", "no", "yes it may be"},
                         0});
  }
  questions.push_back({"Q ", {"x", "yy"}, 0});
  questions.push_back({"", {"word", "other"}, 0});
  questions.push_back({"", {"fits.", "fits."}, 0, {"The cup is full and it", "The box and it"}});
  const auto responses = ask("mmlu", questions);
  for (size_t q = 0; q < 7; ++q) {
    for (size_t c = 0; c < 4; ++c) {
      EXPECT_NEAR(responses[q].log_likelihoods[c],
                  alone(questions[q].prompt, " " + questions[q].choices[c]), 1e-4);
    }
  }
  EXPECT_NEAR(responses[7].log_likelihoods[1], alone("Q", "  yy"), 1e-4);
  const int64_t bos = *tokenizer.bos_id();
  EXPECT_NEAR(responses[8].log_likelihoods[0], alone(std::vector<int64_t>{bos}, " word"), 1e-4);
  EXPECT_NEAR(responses[9].log_likelihoods[1], alone("The box and it", " fits."), 1e-4);
}

TEST_F(RespondentTest, OfALongPromptTheBeginningIsCut) {
  const std::string prompt(600, 'x');
  const auto responses = ask("mmlu", {{prompt + "tail", {"ab", "c"}, 0}});
  // Prompt and choice have 512 tokens without the last one.
  EXPECT_NEAR(responses[0].log_likelihoods[0], alone(std::string(506, 'x') + "tail", " ab"), 1e-4);
}

TEST_F(RespondentTest, AWordIsTheLikeliestWhereTheModelWouldWriteIt) {
  // Whatever the model writes after the space is found likeliest, where it is the model's first
  // choice; any other word is not.
  const std::vector<int64_t> space = tokenizer.encode(" ");
  int written = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string prompt = "Once upon " + std::to_string(i);
    const auto ids = tokenizer.encode(prompt + " ");
    const torch::Tensor logits = model.forward(torch::tensor(ids).unsqueeze(0))[0];
    const auto best = logits.argmax(-1).slice(0, std::ssize(ids) - 2);  // of the space, after it
    const int64_t next = best[1].item<int64_t>();
    if (next < 3 + 0x21 || next >= 3 + 0x7f) continue;  // a byte of ASCII
    const std::string word(1, static_cast<char>(next - 3));
    const auto responses = ask("lambada_openai", {{prompt, {word}, 0}, {prompt, {"\x01"}, 0}});
    EXPECT_EQ(responses[0].likeliest, best[0].item<int64_t>() == space[0]);
    EXPECT_FALSE(responses[1].likeliest);
    if (++written == 20) break;
  }
  EXPECT_GT(written, 0);
}

TEST_F(RespondentTest, TextsAreThoseThatGenerateWritesUpToAStop) {
  std::vector<Question> questions;
  for (int i = 0; i < 45; ++i) {  // more than are written at once
    questions.push_back({"Question: " + std::string(static_cast<size_t>(i % 5), 'a') +
                             std::to_string(i) + "\nAnswer:",
                         {},
                         0});
    questions.back().answers = {"x"};
  }
  const auto responses = ask("gsm8k", questions);
  model::GenerateOptions greedy;
  greedy.max_new_tokens = kNewTokens;
  greedy.sampling.temperature = 0;
  for (size_t q = 0; q < questions.size(); q += 11) {
    const auto alone = model::generate(model, {tokenizer.encode(questions[q].prompt)}, greedy);
    std::string text = tokenizer.decode(alone[0].ids, true);
    for (const std::string_view stop : find_task("gsm8k").stops) {
      text.resize(std::min(text.find(stop), text.size()));
    }
    EXPECT_EQ(responses[q].text, text);
  }
}

TEST_F(RespondentTest, AStopIsNoPartOfTheText) {
  Question question{"Question: a\nAnswer:", {}, 0};
  question.answers = {"x"};
  const std::string whole = ask("gsm8k", {question})[0].text;
  ASSERT_GE(whole.size(), 8u);
  Task task = find_task("gsm8k");
  const std::string stop = whole.substr(4, 2);
  const std::array<std::string_view, 1> stops = {stop};
  task.stops = stops;
  Respondent respondent(model, tokenizer);
  const std::vector<const Question*> asked = {&question};
  std::string text;
  respondent.ask(task, asked, [&](const auto& answered) { text = answered[0].second.text; });
  EXPECT_EQ(text, whole.substr(0, whole.find(stop)));
}

TEST_F(RespondentTest, AContextWithoutRoomForAnAnswerIsRefused) {
  const model::Model narrow = made(256);
  Question question{"Question: a\nAnswer:", {}, 0};
  question.answers = {"x"};
  try {
    ask("triviaqa", {question}, narrow);
    FAIL() << "expected a refusal";
  } catch (const c10::ValueError& e) {
    EXPECT_NE(std::string(e.what()).find("more than 256 tokens, got 256"), std::string::npos);
  }
}

TEST_F(RespondentTest, GroupsHoldEveryQuestionOnceTheLongestFirst) {
  std::vector<Question> questions;
  for (size_t i = 0; i < 200; ++i) questions.push_back({std::string(1 + i * 37 % 900, 'x'), {"a"}});
  const Respondent respondent(model, tokenizer);
  const std::vector<std::vector<const Question*>> sets = {pointers(questions)};
  std::vector<int> seen(questions.size(), 0);
  size_t before = 1000;
  for (const auto& group : respondent.groups(find_task("mmlu"), sets, 1000)) {
    EXPECT_LE(group.size(), 64u);
    EXPECT_LE(questions[group.front()].prompt.size(), before + 2);  // lengths are guessed
    before = questions[group.back()].prompt.size();
    for (const size_t q : group) ++seen[q];
  }
  EXPECT_EQ(seen, std::vector<int>(questions.size(), 1));
}

TEST_F(RespondentTest, AGroupHoldsSmallSetsOneAfterAnother) {
  using Groups = std::vector<std::vector<size_t>>;
  const std::vector<Question> questions = {
      {"a", {"x"}}, {"a longer one", {"x"}}, {std::string(600, 'b'), {"x"}}, {"b", {"x"}}};
  const auto all = pointers(questions);
  const std::vector<std::vector<const Question*>> sets = {{all[0], all[1]}, {}, {all[3], all[2]}};
  const Respondent respondent(model, tokenizer);
  EXPECT_EQ(respondent.groups(find_task("mmlu"), sets, 9), (Groups{{1, 0, 3, 2}}));
  EXPECT_EQ(respondent.groups(find_task("mmlu"), sets, 3), (Groups{{1, 0, 3}, {2}}));
  EXPECT_EQ(respondent.groups(find_task("triviaqa"), sets, 9), (Groups{{1}, {0}, {3}, {2}}));
  // One that fills the cache is asked alone, and what follows it together again.
  const Question long_one = {std::string(24000, 'c'), {"x"}};
  const std::vector<std::vector<const Question*>> with_long = {
      {all[0], all[1]}, {&long_one}, {all[3]}};
  EXPECT_EQ(respondent.groups(find_task("mmlu"), with_long, 9), (Groups{{1, 0}, {2}, {3}}));
}

}  // namespace
}  // namespace schmidt::eval
