#include "schmidt/text/chat_formats.h"

#include <ctime>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

// Python's str.strip, which Jinja uses: White_Space and four separators of ASCII.
std::string strip(std::string_view text) {
  const auto is_space = [](char32_t c) { return is_white_space(c) || (0x1C <= c && c <= 0x1F); };
  size_t begin = 0, end = text.size();
  while (begin < end && is_space(code_point_at(text, begin).value)) {
    begin += code_point_at(text, begin).length;
  }
  while (end > begin && is_space(code_point_before(text, end).value)) {
    end -= code_point_before(text, end).length;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string_view strip_newlines(std::string_view text, bool left, bool right) {
  while (left && text.starts_with('\n')) text.remove_prefix(1);
  while (right && text.ends_with('\n')) text.remove_suffix(1);
  return text;
}

// The conversation in turns: an optional system message, then user and assistant.
struct Turns {
  std::string system;
  bool has_system = false;
  std::vector<Message> messages;
};

Turns alternating_turns(const ChatContext& chat) {
  Turns turns{{}, chat.messages.front().role == "system", chat.messages};
  if (turns.has_system) {
    turns.system = chat.messages.front().content;
    turns.messages.erase(turns.messages.begin());
  }
  for (size_t i = 0; i < turns.messages.size(); ++i) {
    const char* expected = i % 2 == 0 ? "user" : "assistant";
    TORCH_CHECK_VALUE(turns.messages[i].role == expected,
                      "[format_chat] expected user and assistant in turn after an optional system "
                      "message, got \"",
                      turns.messages[i].role, "\" as message ", i + 1 + (turns.has_system ? 1 : 0));
  }
  TORCH_CHECK_VALUE(!turns.messages.empty(),
                    "[format_chat] expected a message of the user, got a system message only");
  return turns;
}

// ChatML ---------------------------------------------------------------------

std::string chatml_turn(std::string_view role, std::string_view content) {
  return fmt::format("<|im_start|>{}\n{}<|im_end|>\n", role, content);
}

// The system message that a ChatML template writes where the conversation has none
// (SmolLM2, Qwen 2 and 2.5); empty if it writes none.
std::string default_system_message(std::string_view source) {
  constexpr std::string_view kOpen = "<|im_start|>system", kClose = "<|im_end|>";
  for (size_t at = source.find(kOpen); at != std::string_view::npos;
       at = source.find(kOpen, at + 1)) {
    std::string_view rest = source.substr(at + kOpen.size());
    // The line break is one, or the two characters of its escape.
    if (rest.starts_with("\\n")) {
      rest.remove_prefix(2);
    } else if (rest.starts_with("\n")) {
      rest.remove_prefix(1);
    } else {
      continue;
    }
    const std::string_view message = rest.substr(0, rest.find(kClose));
    // A literal, not an expression between two.
    if (message.size() < rest.size() && message.find_first_of("'\"{}") == std::string_view::npos) {
      return std::string(message);
    }
  }
  return {};
}

std::string format_chatml(const ChatContext& chat) {
  std::string text;
  if (chat.messages.front().role != "system") {
    const std::string system = default_system_message(chat.source);
    if (!system.empty()) text += chatml_turn("system", system);
  }
  for (const Message& message : chat.messages) text += chatml_turn(message.role, message.content);
  if (chat.options.generation_prompt) text += "<|im_start|>assistant\n";
  return text;
}

// For a Qwen 2 whose template is missing.
std::string format_qwen2(const ChatContext& chat) {
  ChatContext with_default = chat;
  with_default.source = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>";
  return format_chatml(with_default);
}

// Reasoning stands in an answer to the last question and is left out of earlier ones.
std::string format_qwen3(const ChatContext& chat) {
  constexpr std::string_view kOpen = "<think>", kClose = "</think>";
  size_t last_question = chat.messages.size() - 1;
  for (size_t i = chat.messages.size(); i-- > 0;) {
    const std::string_view content = chat.messages[i].content;
    const bool is_tool_response =
        content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (chat.messages[i].role == "user" && !is_tool_response) {
      last_question = i;
      break;
    }
  }
  std::string text;
  for (size_t i = 0; i < chat.messages.size(); ++i) {
    std::string_view content = chat.messages[i].content, reasoning;
    if (chat.messages[i].role == "assistant") {
      if (const size_t close = content.find(kClose); close != std::string_view::npos) {
        reasoning = strip_newlines(content.substr(0, close), false, true);
        if (const size_t open = reasoning.rfind(kOpen); open != std::string_view::npos) {
          reasoning.remove_prefix(open + kOpen.size());
        }
        reasoning = strip_newlines(reasoning, true, false);
        content.remove_prefix(content.rfind(kClose) + kClose.size());
        content = strip_newlines(content, true, false);
      }
      const bool is_last = i + 1 == chat.messages.size();
      if (i > last_question && (is_last || !reasoning.empty())) {
        text += chatml_turn("assistant", fmt::format("<think>\n{}\n</think>\n\n{}",
                                                     strip_newlines(reasoning, true, true),
                                                     strip_newlines(content, true, false)));
        continue;
      }
    }
    text += chatml_turn(chat.messages[i].role, content);
  }
  if (chat.options.generation_prompt) {
    text += "<|im_start|>assistant\n";
    if (!chat.options.thinking) text += "<think>\n\n</think>\n\n";
  }
  return text;
}

// Llama ----------------------------------------------------------------------

std::string format_llama2(const ChatContext& chat) {
  const Turns turns = alternating_turns(chat);
  std::string text;
  for (size_t i = 0; i < turns.messages.size(); ++i) {
    std::string content = turns.messages[i].content;
    if (i == 0 && turns.has_system) {
      content = fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n{}", turns.system, content);
    }
    text += turns.messages[i].role == "user"
                ? fmt::format("{}[INST] {} [/INST]", chat.bos, strip(content))
                : fmt::format(" {} {}", strip(content), chat.eos);
  }
  return text;
}

std::string llama3_turn(std::string_view role, std::string_view content) {
  return fmt::format("<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>", role, content);
}

std::string llama3_generation_prompt(const ChatContext& chat) {
  return chat.options.generation_prompt ? "<|start_header_id|>assistant<|end_header_id|>\n\n" : "";
}

std::string format_llama3(const ChatContext& chat) {
  std::string text = chat.bos;
  for (const Message& message : chat.messages) {
    text += llama3_turn(message.role, strip(message.content));
  }
  return text + llama3_generation_prompt(chat);
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  return fmt::format("{:02} {} {}", local.tm_mday, kMonths[local.tm_mon], local.tm_year + 1900);
}

// A system message always stands first, headed by two dates.
std::string format_llama31(const ChatContext& chat) {
  std::string date = chat.options.date;
  if (date.empty()) {
    const bool asks_clock = chat.source.find("strftime_now") != std::string_view::npos;
    date = asks_clock ? today() : "26 Jul 2024";
  }
  const bool has_system = chat.messages.front().role == "system";
  std::string text =
      chat.bos +
      llama3_turn("system",
                  fmt::format("Cutting Knowledge Date: December 2023\nToday Date: {}\n\n{}", date,
                              has_system ? strip(chat.messages.front().content) : ""));
  for (size_t i = has_system ? 1 : 0; i < chat.messages.size(); ++i) {
    text += llama3_turn(chat.messages[i].role, strip(chat.messages[i].content));
  }
  return text + llama3_generation_prompt(chat);
}

// Mistral --------------------------------------------------------------------

// The versions differ in spaces, and in which question carries the system message.
struct MistralStyle {
  const char* before_question;
  const char* behind_question;
  const char* before_answer;
  const char* behind_eos;
  enum { kNowhere, kFirst, kLast } system;
  bool strips_answer = false;
};

std::string format_mistral(const ChatContext& chat, const MistralStyle& style) {
  const Turns turns = alternating_turns(chat);
  TORCH_CHECK_VALUE(!turns.has_system || style.system != MistralStyle::kNowhere,
                    "[format_chat] expected user and assistant in turn, got a system message, "
                    "which this model does not know");
  std::string text = chat.bos;
  const size_t last = turns.messages.size() - 1;
  for (size_t i = 0; i < turns.messages.size(); ++i) {
    const std::string& content = turns.messages[i].content;
    if (turns.messages[i].role == "assistant") {
      text += style.before_answer + (style.strips_answer ? strip(content) : content) + chat.eos +
              style.behind_eos;
      continue;
    }
    const bool carries_system =
        turns.has_system && (style.system == MistralStyle::kFirst ? i == 0 : i == last);
    text += style.before_question + (carries_system ? turns.system + "\n\n" : "") + content +
            style.behind_question;
  }
  return text;
}

// Mistral 7B Instruct v0.1; v0.2; both as revised later; v0.3; Nemo.
std::string format_mistral_v1(const ChatContext& chat) {
  return format_mistral(chat, {"[INST] ", " [/INST]", "", " ", MistralStyle::kNowhere});
}
std::string format_mistral_v2(const ChatContext& chat) {
  return format_mistral(chat, {"[INST] ", " [/INST]", "", "", MistralStyle::kNowhere});
}
std::string format_mistral_revised(const ChatContext& chat) {
  return format_mistral(chat, {" [INST] ", " [/INST]", " ", "", MistralStyle::kFirst});
}
std::string format_mistral_v3(const ChatContext& chat) {
  return format_mistral(chat, {"[INST] ", "[/INST]", " ", "", MistralStyle::kLast, true});
}
std::string format_mistral_nemo(const ChatContext& chat) {
  return format_mistral(chat, {"[INST]", "[/INST]", "", "", MistralStyle::kLast});
}

// Zephyr ---------------------------------------------------------------------

std::string format_zephyr(const ChatContext& chat) {
  std::string text;
  for (const Message& message : chat.messages) {
    text += fmt::format("<|{}|>\n{}{}\n", message.role, message.content, chat.eos);
  }
  if (chat.options.generation_prompt) text += "<|assistant|>\n";
  return text;
}

// A template is of the first format all of whose marks it has.
struct Recognizer {
  std::vector<std::string_view> marks;
  ChatFormat format;
};

const std::vector<Recognizer>& recognizers() {
  static const std::vector<Recognizer> kTable = {
      {{"<|im_start|>", "enable_thinking", "</think>"}, format_qwen3},
      {{"<|im_start|>"}, format_chatml},
      {{"<|start_header_id|>", "Cutting Knowledge Date"}, format_llama31},
      {{"<|start_header_id|>"}, format_llama3},
      {{"[INST]", "<<SYS>>"}, format_llama2},
      {{"\" [INST] \"", "\" [/INST]\""}, format_mistral_revised},
      {{"\"[INST] \"", "\"[/INST]\""}, format_mistral_v3},
      {{"\"[INST]\"", "\"[/INST]\""}, format_mistral_nemo},
      {{"'[INST] '", "' [/INST]'", "eos_token + ' '"}, format_mistral_v1},
      {{"'[INST] '", "' [/INST]'"}, format_mistral_v2},
      {{"<|user|>", "<|assistant|>", "message['content'] + eos_token"}, format_zephyr}};
  return kTable;
}

// Of models without a template, the first line that fits counts.
struct ModelFormat {
  std::string_view model_type;
  std::string_view token;  // that the vocabulary must have; empty: none
  ChatFormat format;
};

constexpr ModelFormat kModelFormats[] = {{"qwen3", "", format_qwen3},
                                         {"qwen2", "", format_qwen2},
                                         {"llama", "<|start_header_id|>", format_llama3},
                                         {"llama", "<|im_start|>", format_chatml},
                                         {"llama", "", format_llama2},
                                         {"mistral", "[INST]", format_mistral_v3},
                                         {"mistral", "", format_mistral_v2}};

}  // namespace

ChatFormat chat_format_of_template(std::string_view source) {
  for (const Recognizer& r : recognizers()) {
    const bool fits = std::all_of(r.marks.begin(), r.marks.end(), [&](std::string_view mark) {
      return source.find(mark) != std::string_view::npos;
    });
    if (fits) return r.format;
  }
  return nullptr;
}

ChatFormat chat_format_of_model(std::string_view model_type,
                                const std::function<bool(std::string_view)>& has_token) {
  for (const ModelFormat& m : kModelFormats) {
    if (m.model_type == model_type && (m.token.empty() || has_token(m.token))) return m.format;
  }
  return nullptr;
}

}  // namespace schmidt::text
