#include "schmidt/eval/multiple_choice.h"

#include <algorithm>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

// Rows of logits held at once, as for perplexity.
constexpr int64_t kRows = 64;

using Ids = std::vector<int64_t>;

struct Encoded {
  Ids prompt, choice;
};

Encoded encode(const text::Tokenizer& tokenizer, const std::string& question,
               const std::string& choice) {
  // Space at the prompt's end begins the choice.
  const std::string_view prompt =
      std::string_view(question).substr(0, question.find_last_not_of(" \t\n\r\f\v") + 1);
  const text::EncodeOptions options{.add_special = true};
  Ids all = tokenizer.encode(question + " " + choice, options);
  const Ids before = tokenizer.encode(prompt, options);
  const size_t split = std::min(before.size(), all.size() - std::min<size_t>(all.size(), 1));
  return {{all.begin(), all.begin() + static_cast<std::ptrdiff_t>(split)},
          {all.begin() + static_cast<std::ptrdiff_t>(split), all.end()}};
}

double characters(std::string_view text) {
  double count = 0;
  for (size_t at = 0; at < text.size();
       at += static_cast<size_t>(text::code_point_at(text, at).length)) {
    ++count;
  }
  return count;
}

}  // namespace

MultipleChoice::MultipleChoice(const Task& task, const std::vector<Question>& questions,
                               const text::Tokenizer& tokenizer, const ChoiceOptions& options) {
  TORCH_CHECK_VALUE(!questions.empty(), "[", std::string(task.name),
                    "] expected questions, got none");
  struct Row {
    Ids ids;
    std::vector<Continuation> continuations;
  };
  std::vector<Row> rows;
  for (size_t q = 0; q < questions.size(); ++q) {
    const Question& question = questions[q];
    answers_.push_back(question.answer);
    lengths_.emplace_back();
    const size_t first = rows.size();
    for (size_t c = 0; c < question.choices.size(); ++c) {
      auto [ids, tokens] = encode(tokenizer, question.prompt, question.choices[c]);
      const auto own = static_cast<int64_t>(tokens.size());
      TORCH_CHECK_VALUE(own >= 1 && own <= options.context, "[", std::string(task.name),
                        "] expected choices of 1 to ", options.context, " tokens, got ", own);
      lengths_.back().push_back(task.by_length ? characters(question.choices[c]) : 1.0);
      ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);  // nothing follows the last one
      const auto room = static_cast<size_t>(options.context);
      if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
      const int64_t begin = static_cast<int64_t>(ids.size()) - own;
      TORCH_CHECK_VALUE(begin >= 0, "[", std::string(task.name), "] expected a prompt, got none");
      if (rows.size() == first || rows.back().ids != ids) rows.push_back({std::move(ids), {}});
      rows.back().continuations.push_back({q, c, 0, begin, std::move(tokens)});
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
  const at::NoGradGuard no_grad;
  std::vector<std::vector<double>> result;
  for (const auto& of_question : lengths_) result.emplace_back(of_question.size(), 0.0);
  for (size_t b = 0; b < batches_.size(); ++b) {
    std::vector<torch::Tensor> states;  // [tokens, hidden] of each continuation
    Ids tokens;
    for (const Continuation& c : continuations_[b]) {
      const auto own = static_cast<int64_t>(c.tokens.size());
      states.push_back(hidden[b][c.row].narrow(0, c.begin, own));
      tokens.insert(tokens.end(), c.tokens.begin(), c.tokens.end());
    }
    const torch::Tensor all = at::cat(states);
    const torch::Tensor next = at::tensor(tokens, at::kLong).to(all.device()).unsqueeze(1);
    std::vector<torch::Tensor> log_p;
    for (int64_t row = 0; row < all.size(0); row += kRows) {
      const int64_t rows = std::min(kRows, all.size(0) - row);
      const torch::Tensor logits = model.logits(all.narrow(0, row, rows)).to(at::kFloat);
      log_p.push_back(at::log_softmax(logits, -1).gather(1, next.narrow(0, row, rows)));
    }
    const torch::Tensor each = at::cat(log_p).squeeze(1).to(at::kCPU, at::kDouble);
    int64_t at = 0;
    for (const Continuation& c : continuations_[b]) {
      const auto own = static_cast<int64_t>(c.tokens.size());
      result[c.question][c.choice] = each.narrow(0, at, own).sum().item<double>();
      at += own;
    }
  }
  return result;
}

double MultipleChoice::accuracy(const std::vector<std::vector<double>>& log_likelihoods) const {
  size_t right = 0;
  for (size_t q = 0; q < answers_.size(); ++q) {
    size_t best = 0;
    const auto value = [&](size_t c) { return log_likelihoods[q][c] / lengths_[q][c]; };
    for (size_t c = 1; c < lengths_[q].size(); ++c) {
      if (value(c) > value(best)) best = c;
    }
    right += best == answers_[q] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(answers_.size());
}

}  // namespace schmidt::eval
