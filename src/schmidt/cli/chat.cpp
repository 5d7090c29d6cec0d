#include "schmidt/text/chat.h"

#include <cstdio>
#include <iostream>

#include <fmt/format.h>
#include <unistd.h>

#include "schmidt/cli/loading.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sampling.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/text/utf8.h"

namespace schmidt::cli {
namespace {

using Messages = std::vector<text::Message>;

struct ChatOptions {
  CommonOptions common;
  std::string model;
  std::string system;
  InferenceOptions inference;
  SamplingFlags flags;
};

Messages beginning(const ChatOptions& options) {
  if (options.system.empty()) return {};
  return {{"system", options.system}};
}

// Files of Windows end their lines with a carriage return.
void drop_line_end(std::string& line) { line.erase(line.find_last_not_of('\r') + 1); }

std::string_view without_space_behind(std::string_view line) {
  return line.substr(0, line.find_last_not_of(" \t") + 1);
}

// A conversation, and the prompt that asks for its next answer.
struct Asked {
  Messages messages;
  std::vector<int64_t> prompt;
  bool turns_dropped = false;
};

// Leaves out as many of the oldest turns as it takes to have room for an answer: for
// `max_tokens`, but no more than a quarter of the context. The system message stays. A last
// turn that fills the context alone comes back with a prompt that does not fit.
Asked ask(const model::Model& model, const text::Tokenizer& tokenizer, Messages messages,
          int64_t max_tokens) {
  const int64_t context = model.config().max_positions;
  const int64_t room = std::min(max_tokens, context / 4);
  const size_t first = messages.front().role == "system" ? 1 : 0;
  Asked asked{std::move(messages), {}, false};
  for (;;) {
    asked.prompt = tokenizer.encode(text::format_chat(tokenizer, model.config().model_type,
                                                      asked.messages, /*generation_prompt=*/true));
    const auto length = static_cast<int64_t>(asked.prompt.size());
    if (length <= context - room || asked.messages.size() == first + 1) return asked;
    const auto oldest = asked.messages.begin() + static_cast<std::ptrdiff_t>(first);
    asked.messages.erase(oldest, oldest + 2);  // a question and its answer
    asked.turns_dropped = true;
  }
}

// What a program reads: one object for each line that was asked.
void print_json(const nlohmann::ordered_json& value) {
  print_now(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

class Session {
 public:
  explicit Session(const ChatOptions& options)
      : options_(options),
        checkpoint_(open_checkpoint(options.model, options.common)),
        tokenizer_(load_tokenizer(options.model, options.common)),
        model_(load_model(checkpoint_, options.common, options.inference)),
        draft_(load_draft(options.flags, tokenizer_, options.common, options.inference)) {
    TORCH_CHECK_VALUE(text::is_valid_utf8(options.system),
                      "[chat] expected --system in UTF-8, got other bytes");
    reset();
  }

  ~Session() { note_draft(draft_.get(), options_.common); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void reset() {
    messages_ = beginning(options_);
    said_dropped_ = false;
  }

  void answer(std::string question) {
    Messages messages = messages_;
    messages.push_back({"user", std::move(question)});
    Asked asked = ask(model_, tokenizer_, std::move(messages), options_.flags.max_tokens);
    if (std::cmp_greater_equal(asked.prompt.size(), model_.config().max_positions)) {
      refuse(asked.prompt.size());
      return;
    }
    note(asked);
    const bool live = !options_.common.json;
    const auto show = [&](const std::string& piece) {
      if (live) print_now(piece);
    };
    Continuation answer =
        continue_prompt(model_, tokenizer_, asked.prompt, Join::kAnswer, options_.flags,
                        options_.common, kept_, draft_.get(), show);
    if (live) {
      print_now("\n");
    } else {
      print_json({{"role", "assistant"},
                  {"content", answer.text},
                  {"finish_reason", answer.finish_reason}});
    }
    messages_ = std::move(asked.messages);
    messages_.push_back({"assistant", std::move(answer.text)});
  }

 private:
  // The conversation stays as it was before the question.
  void refuse(size_t tokens) {
    const std::string reason = fmt::format(
        "[chat] expected {} of fewer than {} tokens, the context, got {}; it is left out",
        options_.system.empty() ? "a turn" : "the system message and a turn",
        model_.config().max_positions, tokens);
    fmt::print(stderr, "error: {}\n", reason);
    if (options_.common.json) print_json({{"error", reason}});
  }

  void note(const Asked& asked) {
    note_two_bos(tokenizer_, asked.prompt, options_.common, said_two_bos_);
    if (!asked.turns_dropped || said_dropped_ || options_.common.quiet) return;
    said_dropped_ = true;
    fmt::print(stderr,
               "note: the conversation no longer fits the context of {} tokens: its oldest turns "
               "are left out from here on\n",
               model_.config().max_positions);
  }

  const ChatOptions& options_;
  io::Checkpoint checkpoint_;
  text::Tokenizer tokenizer_;
  model::Model model_;
  std::unique_ptr<LoadedDraft> draft_;
  Messages messages_;
  model::KeptSequence kept_;  // a turn reads only what was not there before
  bool said_dropped_ = false, said_two_bos_ = false;
};

void run(const ChatOptions& options) {
  apply_common_options(options.common);
  Session session(options);
  const bool terminal = ::isatty(STDIN_FILENO) != 0 && !options.common.quiet;
  if (terminal) std::fputs("/reset forgets the conversation, /exit or Ctrl-D ends\n", stderr);
  std::string line;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    drop_line_end(line);
    text::utf8_text(line, "standard input");
    const std::string_view command = without_space_behind(line);
    if (command.empty()) continue;
    if (command == "/exit") break;
    if (command == "/reset") {
      session.reset();
    } else {
      session.answer(line);
    }
  }
}

}  // namespace

Action add_chat(CLI::App& verb) {
  auto options = std::make_shared<ChatOptions>();
  add_model_argument(verb, options->model);
  verb.add_option("--system", options->system, "System message");
  add_sampling_flags(verb, options->flags);
  add_inference_options(verb, options->inference);
  add_cache_type_option(verb, options->inference.cache_type);
  add_common_options(verb, options->common);
  return [options, &verb] {
    check_sampling_options("chat", given_options(verb), options->flags);
    run(*options);
  };
}

}  // namespace schmidt::cli
