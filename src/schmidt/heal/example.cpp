#include "schmidt/heal/example.h"

#include <algorithm>
#include <string>

#include <c10/util/Exception.h>

#include "schmidt/text/chat.h"

namespace schmidt::heal {
namespace {

using text::Message;
using text::Tokenizer;

constexpr text::EncodeOptions kEncode = {.parse_special = true, .add_special = false};
constexpr const char* kDate = "26 Jul 2024";
constexpr std::string_view kSpaces = " \t\r\n\v\f";

struct Span {
  size_t begin = 0, end = 0;
};

template <typename Sequence>
size_t common_prefix(const Sequence& a, const Sequence& b) {
  const size_t most = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + most, b.begin()).first - a.begin();
}

std::string written(const Tokenizer& tokenizer, std::string_view model_type,
                    const std::vector<Message>& messages, bool generation_prompt) {
  text::ChatOptions options;
  options.generation_prompt = generation_prompt;
  options.date = kDate;
  return text::format_chat(tokenizer, model_type, messages, options);
}

/// A character that `text` does not hold and that no format strips.
char foreign_character(std::string_view text) {
  char c = '\x01';
  while (c < '\x08' && text.find(c) != std::string_view::npos) ++c;
  return c;
}

/// The bytes of `whole` that message i puts there. What else is written may depend on the
/// messages around it (Mistral 0.3 moves the system message, Qwen 3 drops reasoning), so
/// a prefix of the conversation may not be a prefix of `whole`: what differs once the
/// message is another one is the message's.
Span words_of(const std::string& whole, const Tokenizer& tokenizer, std::string_view model_type,
              const std::vector<Message>& messages, size_t i) {
  std::vector<Message> changed = messages;
  changed[i].content = std::string(1, foreign_character(messages[i].content));
  const std::string other = written(tokenizer, model_type, changed, false);
  const size_t begin = common_prefix(whole, other);
  const size_t room = std::min(whole.size(), other.size()) - begin;
  size_t behind = 0;
  while (behind < room && whole[whole.size() - 1 - behind] == other[other.size() - 1 - behind]) {
    ++behind;
  }
  return {begin, whole.size() - behind};
}

/// Where the model's turn begins: behind the generation prompt, if `whole` has it there.
size_t turn_begin(const std::string& whole, size_t words_begin, const Tokenizer& tokenizer,
                  std::string_view model_type, const std::vector<Message>& messages, size_t i) {
  if (i == 0) return words_begin;
  const std::vector<Message> before(messages.begin(), messages.begin() + static_cast<int64_t>(i));
  const std::string prompt = written(tokenizer, model_type, before, true);
  return whole.starts_with(prompt) ? std::min(prompt.size(), words_begin) : words_begin;
}

/// The tokens of `ids` that end within the first `bytes` of their text `whole`.
size_t tokens_within(const std::string& whole, size_t bytes, const std::vector<int64_t>& ids,
                     const Tokenizer& tokenizer) {
  return common_prefix(tokenizer.encode(std::string_view(whole).substr(0, bytes), kEncode), ids);
}

/// Behind the token that ends a turn whose words end at byte `words_end`, or behind the
/// words where no special token follows.
size_t turn_end(const std::string& whole, size_t words_end, const std::vector<int64_t>& ids,
                const Tokenizer& tokenizer) {
  const size_t last = tokens_within(whole, words_end, ids, tokenizer);
  std::string_view rest = std::string_view(whole).substr(words_end);
  rest.remove_prefix(std::min(rest.find_first_not_of(kSpaces), rest.size()));
  for (size_t i = last; i < ids.size(); ++i) {
    if (!tokenizer.is_special(ids[i])) continue;
    return rest.starts_with(tokenizer.id_to_token(ids[i])) ? i + 1 : last;
  }
  return last;
}

}  // namespace

Example make_example(const Tokenizer& tokenizer, std::string_view model_type,
                     const text::Document& document, LossOn loss_on) {
  const std::vector<Message>& messages = document.messages;
  const bool is_text = messages.empty();
  const std::string whole =
      is_text ? document.text : written(tokenizer, model_type, messages, false);
  Example example{tokenizer.encode(whole, kEncode), {}};
  example.trained.assign(example.ids.size(), is_text || loss_on == LossOn::kAll);
  if (is_text || loss_on == LossOn::kAll) return example;

  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role != "assistant") continue;
    const Span words = words_of(whole, tokenizer, model_type, messages, i);
    const std::string_view content(whole.data() + words.begin, words.end - words.begin);
    if (content.find_first_not_of(kSpaces) == std::string_view::npos) continue;
    const size_t begin = turn_begin(whole, words.begin, tokenizer, model_type, messages, i);
    const size_t first = tokens_within(whole, begin, example.ids, tokenizer);
    const size_t end = turn_end(whole, words.end, example.ids, tokenizer);
    for (size_t t = first; t < end; ++t) example.trained[t] = true;
  }
  return example;
}

std::vector<Example> windows_of(const Example& example, int64_t context) {
  TORCH_CHECK_VALUE(context >= 2, "[windows_of] expected a context of 2 tokens or more, got ",
                    context);
  std::vector<Example> windows;
  const auto size = static_cast<int64_t>(example.ids.size());
  for (int64_t begin = 0; begin < size; begin += context) {
    const int64_t end = std::min(begin + context, size);
    const auto ids = example.ids.begin();
    const auto trained = example.trained.begin();
    if (std::find(trained + begin + 1, trained + end, true) == trained + end) continue;
    windows.push_back({{ids + begin, ids + end}, {trained + begin, trained + end}});
  }
  return windows;
}

}  // namespace schmidt::heal
