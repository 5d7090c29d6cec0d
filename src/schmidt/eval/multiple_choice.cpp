#include "schmidt/eval/multiple_choice.h"

#include <algorithm>

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include "schmidt/eval/encoded_question.h"
#include "schmidt/eval/scores.h"
#include "schmidt/eval/token_likelihoods.h"

namespace schmidt::eval {

MultipleChoice::MultipleChoice(const Task& task, const std::vector<Question>& questions,
                               const text::Tokenizer& tokenizer, const ChoiceOptions& options)
    : by_length_(task.by_length), questions_(questions) {
  TORCH_CHECK_VALUE(!questions.empty(), "[", std::string(task.name),
                    "] expected questions, got none");
  struct Row {
    Ids ids;
    std::vector<Continuation> continuations;
  };
  std::vector<Row> rows;
  for (size_t q = 0; q < questions.size(); ++q) {
    const size_t first = rows.size();
    for (size_t c = 0; c < questions[q].choices.size(); ++c) {
      ChoiceRow row = choice_row(tokenizer, questions[q], c, options.context);
      if (rows.size() == first || rows.back().ids != row.ids) {
        rows.push_back({std::move(row.ids), {}});
      }
      rows.back().continuations.push_back({q, c, 0, row.begin, std::move(row.tokens)});
    }
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.ids.size() > b.ids.size(); });
  for (size_t at = 0; at < rows.size(); at += static_cast<size_t>(options.batch)) {
    const size_t end = std::min(rows.size(), at + static_cast<size_t>(options.batch));
    const auto t = static_cast<int64_t>(rows[at].ids.size());
    torch::Tensor ids = at::zeros({static_cast<int64_t>(end - at), t}, at::kLong);
    continuations_.emplace_back();
    for (size_t i = at; i < end; ++i) {
      const auto row = static_cast<int64_t>(i - at);
      std::copy(rows[i].ids.begin(), rows[i].ids.end(), ids[row].mutable_data_ptr<int64_t>());
      for (Continuation& c : rows[i].continuations) {
        c.row = row;
        continuations_.back().push_back(std::move(c));
      }
    }
    batches_.push_back(std::move(ids));
  }
}

std::vector<std::vector<double>> MultipleChoice::log_likelihoods(
    const model::Model& model, const std::vector<torch::Tensor>& hidden) const {
  TORCH_CHECK_VALUE(hidden.size() == batches_.size(), "[multiple_choice] expected states of ",
                    batches_.size(), " batches, got ", hidden.size());
  std::vector<std::vector<double>> result;
  for (const Question& question : questions_) result.emplace_back(question.choices.size(), 0.0);
  for (size_t b = 0; b < batches_.size(); ++b) {
    std::vector<torch::Tensor> states;  // [tokens, hidden] of each continuation
    Ids tokens;
    for (const Continuation& c : continuations_[b]) {
      const auto own = static_cast<int64_t>(c.tokens.size());
      states.push_back(hidden[b][c.row].narrow(0, c.begin, own));
      tokens.insert(tokens.end(), c.tokens.begin(), c.tokens.end());
    }
    const auto likelihoods = token_likelihoods(model, at::cat(states), tokens);
    size_t at = 0;
    for (const Continuation& c : continuations_[b]) {
      for (size_t i = 0; i < c.tokens.size(); ++i) {
        result[c.question][c.choice] += likelihoods[at++].log_p;
      }
    }
  }
  return result;
}

double MultipleChoice::accuracy(const std::vector<std::vector<double>>& log_likelihoods) const {
  size_t right = 0;
  for (size_t q = 0; q < questions_.size(); ++q) {
    const size_t best = likeliest_choice(questions_[q], log_likelihoods[q], by_length_);
    right += best == questions_[q].answer ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(questions_.size());
}

std::vector<size_t> MultipleChoice::answers() const {
  std::vector<size_t> all;
  for (const Question& question : questions_) all.push_back(question.answer);
  return all;
}

}  // namespace schmidt::eval
