#include "schmidt/text/chat.h"

#include <cstdio>
#include <iostream>

#include <fmt/format.h>
#include <unistd.h>

#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sampling.h"
#include "schmidt/cli/verbs.h"

namespace schmidt::cli {
namespace {

struct ChatOptions {
  CommonOptions common;
  std::string model;
  std::string system;
  SamplingFlags flags;
};

std::vector<text::Message> beginning(const ChatOptions& options) {
  if (options.system.empty()) return {};
  return {{"system", options.system}};
}

void run(const ChatOptions& options) {
  apply_common_options(options.common);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  const auto tokenizer = text::Tokenizer::load(options.model);
  const model::Model model = load_model(checkpoint, options.common);

  const bool terminal = ::isatty(STDIN_FILENO) != 0 && !options.common.quiet;
  if (terminal) std::fputs("/reset forgets the conversation, /exit or Ctrl-D ends\n", stderr);
  std::vector<text::Message> messages = beginning(options);
  model::KeptSequence kept;  // a turn reads only what was not there before
  std::string line;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line == "/reset") {
      messages = beginning(options);
      continue;
    }
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    messages.push_back({"user", line});
    const std::string prompt = text::format_chat(tokenizer, model.config().model_type, messages,
                                                 /*generation_prompt=*/true);
    const bool live = !options.common.json;
    const auto show = [&](const std::string& piece) {
      if (!live) return;
      std::fputs(piece.c_str(), stdout);
      std::fflush(stdout);
    };
    Continuation answer = continue_prompt(model, tokenizer, tokenizer.encode(prompt), options.flags,
                                          options.common, kept, show);
    if (live) {
      std::fputs("\n", stdout);
    } else {
      const nlohmann::ordered_json out = {
          {"role", "assistant"}, {"content", answer.text}, {"finish_reason", answer.finish_reason}};
      fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      std::fflush(stdout);
    }
    messages.push_back({"assistant", std::move(answer.text)});
  }
}

}  // namespace

Run add_chat(CLI::App& verb) {
  auto options = std::make_shared<ChatOptions>();
  verb.add_option("MODEL", options->model, "Hugging Face folder or .gguf file")->required();
  verb.add_option("--system", options->system, "System message");
  add_sampling_flags(verb, options->flags);
  add_common_options(verb, options->common);
  return [options, &verb] {
    check_sampling_options("chat", given_options(verb), options->flags);
    run(*options);
  };
}

}  // namespace schmidt::cli
