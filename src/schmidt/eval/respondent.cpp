#include "schmidt/eval/respondent.h"

#include <algorithm>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <c10/util/Exception.h>

#include "schmidt/eval/token_likelihoods.h"
#include "schmidt/text/stop_strings.h"

namespace schmidt::eval {
namespace {

constexpr int64_t kCacheBytes = int64_t{1} << 30U;
constexpr int64_t kMostTokens = 8192;  // in the cache: what a step computes takes memory too
constexpr int64_t kMostQuestions = 64;
constexpr int64_t kMostTexts = 32;
constexpr int64_t kPrefillTokens = 2048;  // of prompts that begin in one step
constexpr int64_t kBytesPerToken = 3;     // a low guess, before anything is encoded

// So many more tokens of another row's prompt, about to be computed, are waited for.
constexpr int64_t kWorthWaiting = 32;

int64_t guessed_tokens(const Question& question) {
  size_t prompt = question.prompt.size();
  for (const std::string& of_choice : question.prompts) prompt = std::max(prompt, of_choice.size());
  size_t choice = 0;
  for (const std::string& text : question.choices) choice = std::max(choice, text.size());
  return static_cast<int64_t>(prompt + choice) / kBytesPerToken + 8;
}

/// A text that a choice or several are scored in.
struct Reading {
  Ids ids;
  struct Choice {
    size_t number;
    int64_t begin;
    Ids tokens;
  };
  std::vector<Choice> choices;

  /// States from here on are needed.
  int64_t begin() const {
    int64_t first = choices.front().begin;
    for (const Choice& choice : choices) first = std::min(first, choice.begin);
    return first;
  }
};

std::vector<Reading> readings_of(const text::Tokenizer& tokenizer, const Question& question,
                                 int64_t context) {
  std::vector<Reading> readings;
  for (size_t c = 0; c < question.choices.size(); ++c) {
    ChoiceRow row = choice_row(tokenizer, question, c, context);
    auto reading = std::ranges::find(readings, row.ids, &Reading::ids);
    if (reading == readings.end()) reading = readings.insert(reading, {std::move(row.ids), {}});
    reading->choices.push_back({c, row.begin, std::move(row.tokens)});
  }
  return readings;
}

/// Cuts a text at each of the stops in turn, as the harness does.
std::string cut(std::string text, const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    if (!stop.empty()) text.resize(std::min(text.find(stop), text.size()));
  }
  return text;
}

/// A text on its way.
struct Writing {
  size_t question;
  Ids ids;
  text::StreamDecoder decoder;
  text::StopStrings stops;
  int64_t last = 0;  // the token that comes next into the cache
};

}  // namespace

void check_room(const Task& task, int64_t context) {
  TORCH_CHECK_VALUE(task.asks != Asks::kText || context > kNewTokens, "[", std::string(task.name),
                    "] expected a model with a context of more than ", kNewTokens, " tokens, got ",
                    context);
}

Respondent::Respondent(const model::Model& model, const text::Tokenizer& tokenizer)
    : model_(model), tokenizer_(tokenizer) {}

int64_t Respondent::tokens_in_cache() const {
  const model::ModelConfig& config = model_.config();
  const int64_t bytes = 2 * config.num_layers * config.num_kv_heads * config.head_dim *
                        static_cast<int64_t>(c10::elementSize(model_.dtype()));
  return std::clamp<int64_t>(kCacheBytes / bytes, 1, kMostTokens);
}

std::vector<std::vector<size_t>> Respondent::groups(
    const Task& task, std::span<const std::vector<const Question*>> sets, int64_t most) const {
  std::vector<size_t> order;
  std::vector<int64_t> tokens;
  for (const std::vector<const Question*>& set : sets) {
    const auto begin = static_cast<std::ptrdiff_t>(order.size());
    for (const Question* question : set) {
      order.push_back(tokens.size());
      tokens.push_back(guessed_tokens(*question));
    }
    std::stable_sort(order.begin() + begin, order.end(),
                     [&](size_t a, size_t b) { return tokens[a] > tokens[b]; });
  }
  most = task.asks == Asks::kText ? 1 : std::clamp<int64_t>(most, 1, kMostQuestions);
  std::vector<std::vector<size_t>> all;
  int64_t longest = 0;  // of the last group, which as many rows of the cache are to hold
  for (const size_t question : order) {
    longest = std::max(longest, tokens[question]);
    const bool fits = !all.empty() && std::ssize(all.back()) < most &&
                      (std::ssize(all.back()) + 1) * longest <= tokens_in_cache();
    if (!fits) {
      all.emplace_back();
      longest = tokens[question];
    }
    all.back().push_back(question);
  }
  return all;
}

SharedPrefixes& Respondent::prefixes(int64_t rows, int64_t capacity) {
  if (!prefixes_ || prefixes_->rows() < rows || prefixes_->capacity() < capacity) {
    prefixes_.reset();  // before the next one takes memory
    prefixes_.emplace(model_, rows, capacity);
  }
  return *prefixes_;
}

void Respondent::ask(const Task& task, std::span<const Question* const> questions,
                     const AnswerFn& answer) {
  if (questions.empty()) return;
  if (task.asks == Asks::kText) {
    write_texts(task, questions, answer);
  } else {
    score_choices(questions, answer);
  }
}

void Respondent::score_choices(std::span<const Question* const> questions, const AnswerFn& answer) {
  const int64_t context = model_.config().max_positions;
  std::vector<std::vector<Reading>> readings;
  std::vector<Answered> answered;
  size_t longest = 0;
  for (size_t q = 0; q < questions.size(); ++q) {
    readings.push_back(readings_of(tokenizer_, *questions[q], context));
    for (const Reading& reading : readings.back()) longest = std::max(longest, reading.ids.size());
    answered.push_back({q, {std::vector<double>(questions[q]->choices.size()), true, {}}});
  }
  SharedPrefixes& prefixes =
      this->prefixes(static_cast<int64_t>(questions.size()), static_cast<int64_t>(longest));
  std::vector<size_t> done(questions.size(), 0);
  while (true) {
    std::vector<Ids> next(static_cast<size_t>(prefixes.rows()));
    std::vector<int64_t> wanted(next.size(), 0);
    std::vector<size_t> running;
    for (size_t row = 0; row < readings.size(); ++row) {
      if (done[row] == readings[row].size()) continue;
      const Reading& reading = readings[row][done[row]];
      const int64_t begin = reading.begin();
      const int64_t at_hand = prefixes.held(reading.ids, begin) + kWorthWaiting;
      const bool waits = std::ranges::any_of(running, [&](size_t other) {
        const Ids& ids = readings[other][done[other]].ids;
        return std::min(begin, common_prefix(ids, reading.ids)) > at_hand;
      });
      if (waits) continue;
      const int64_t kept = prefixes.open(static_cast<int64_t>(row), reading.ids, begin);
      next[row].assign(reading.ids.begin() + kept, reading.ids.end());
      wanted[row] = std::ssize(reading.ids) - begin;
      running.push_back(row);
    }
    if (running.empty()) break;
    const torch::Tensor hidden = prefixes.run(next, wanted);
    std::vector<int64_t> places;
    Ids tokens;
    int64_t end = 0;  // of a row in `hidden`
    for (const size_t row : running) {
      const Reading& reading = readings[row][done[row]];
      end += wanted[row];
      for (const Reading::Choice& choice : reading.choices) {
        for (size_t i = 0; i < choice.tokens.size(); ++i) {
          places.push_back(end - std::ssize(reading.ids) + choice.begin + static_cast<int64_t>(i));
        }
        tokens.insert(tokens.end(), choice.tokens.begin(), choice.tokens.end());
      }
    }
    const torch::Tensor index = at::tensor(places, at::kLong).to(hidden.device());
    const auto likelihoods = token_likelihoods(model_, hidden.index_select(0, index), tokens);
    size_t at = 0;
    for (const size_t row : running) {
      Response& response = answered[row].second;
      for (const Reading::Choice& choice : readings[row][done[row]].choices) {
        for (size_t i = 0; i < choice.tokens.size(); ++i, ++at) {
          response.log_likelihoods[choice.number] += likelihoods[at].log_p;
          response.likeliest = response.likeliest && likelihoods[at].likeliest;
        }
      }
      ++done[row];
    }
  }
  answer(answered);
}

void Respondent::write_texts(const Task& task, std::span<const Question* const> questions,
                             const AnswerFn& answer) {
  const int64_t context = model_.config().max_positions;
  check_room(task, context);
  std::vector<std::string> stops(task.stops.begin(), task.stops.end());
  std::vector<int64_t> ends = model_.config().eos_ids;
  if (const auto eos = tokenizer_.eos_id()) {
    ends.push_back(*eos);
    stops.push_back(tokenizer_.decode({*eos}));
  }
  std::vector<Ids> prompts;
  int64_t longest = 0;
  for (const Question* question : questions) {
    Ids ids = encode_prompt(tokenizer_, question->prompt);
    TORCH_CHECK_VALUE(!ids.empty(), "[", std::string(task.name), "] expected a prompt, got none");
    const auto room = static_cast<size_t>(context - kNewTokens);
    if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
    longest = std::max(longest, static_cast<int64_t>(ids.size()));
    prompts.push_back(std::move(ids));
  }
  const int64_t capacity = longest + kNewTokens;
  const int64_t rows = std::min(std::clamp<int64_t>(tokens_in_cache() / capacity, 1, kMostTexts),
                                static_cast<int64_t>(questions.size()));
  SharedPrefixes& prefixes = this->prefixes(rows, capacity);
  std::vector<std::optional<Writing>> writings(static_cast<size_t>(rows));
  size_t begun = 0;

  while (true) {
    std::vector<Ids> next(static_cast<size_t>(prefixes.rows()));
    std::vector<int64_t> wanted(next.size(), 0);
    std::vector<size_t> running;
    int64_t tokens = 0;
    for (size_t row = 0; row < writings.size(); ++row) {
      if (writings[row]) {
        next[row] = {writings[row]->last};
      } else if (begun < prompts.size() &&
                 (running.empty() || tokens + std::ssize(prompts[begun]) <= kPrefillTokens)) {
        const Ids& ids = prompts[begun];
        const int64_t kept = prefixes.open(static_cast<int64_t>(row), ids, std::ssize(ids) - 1);
        next[row].assign(ids.begin() + kept, ids.end());
        writings[row] =
            Writing{begun++, {}, text::StreamDecoder(tokenizer_), text::StopStrings(stops)};
      } else {
        continue;
      }
      tokens += std::ssize(next[row]);
      wanted[row] = 1;
      running.push_back(row);
    }
    if (running.empty()) return;
    const torch::Tensor hidden = prefixes.run(next, wanted);
    const at::NoGradGuard no_grad;
    const torch::Tensor drawn = model_.logits(hidden).to(at::kFloat).argmax(-1).to(at::kCPU);
    std::vector<Answered> answered;
    for (size_t i = 0; i < running.size(); ++i) {
      Writing& writing = *writings[running[i]];
      const int64_t id = drawn.const_data_ptr<int64_t>()[i];
      const bool ended = std::ranges::find(ends, id) != ends.end();
      if (!ended) {
        writing.ids.push_back(id);
        writing.last = id;
        writing.stops.push(writing.decoder.push(id));
      }
      if (ended || writing.stops.stopped() || std::ssize(writing.ids) == kNewTokens) {
        answered.push_back(
            {writing.question, {{}, false, cut(tokenizer_.decode(writing.ids, true), stops)}});
        writings[running[i]].reset();
      }
    }
    if (!answered.empty()) answer(answered);
  }
}

}  // namespace schmidt::eval
