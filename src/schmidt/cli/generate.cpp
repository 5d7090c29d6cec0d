#include <cstdio>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sampling.h"
#include "schmidt/cli/verbs.h"

namespace schmidt::cli {
namespace {

struct GenerateVerbOptions {
  CommonOptions common;
  std::string model;
  std::string prompt;
  std::string prompt_file;
  bool echo = false;
  bool no_special = false;
  SamplingFlags flags;
};

void run(const GenerateVerbOptions& options) {
  apply_common_options(options.common);
  const std::string prompt =
      options.prompt_file.empty() ? options.prompt : read_text(options.prompt_file);
  TORCH_CHECK_VALUE(!prompt.empty(),
                    "[generate] expected a prompt (--prompt or --prompt-file), got an empty one");
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  const auto tokenizer = text::Tokenizer::load(options.model);
  const model::Model model = load_model(checkpoint, options.common);

  const auto ids = tokenizer.encode(prompt, {!options.no_special, /*add_special=*/true});
  const bool live = !options.common.json;
  if (options.echo && live) fmt::print("{}", prompt);
  const auto show = [&](const std::string& piece) {
    if (!live) return;
    std::fputs(piece.c_str(), stdout);
    std::fflush(stdout);
  };
  model::KeptSequence kept;
  const Continuation result =
      continue_prompt(model, tokenizer, ids, options.flags, options.common, kept, show);
  if (live) {
    std::fputs("\n", stdout);
    return;
  }
  nlohmann::ordered_json out = {{"model", escaped_bytes(options.model)},
                                {"prompt", prompt},
                                {"prompt_tokens", ids.size()},
                                {"text", result.text},
                                {"ids", result.ids},
                                {"finish_reason", result.finish_reason}};
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

}  // namespace

Run add_generate(CLI::App& verb) {
  auto options = std::make_shared<GenerateVerbOptions>();
  verb.add_option("MODEL", options->model, "Hugging Face folder or .gguf file")->required();
  auto* prompt = verb.add_option("-p,--prompt", options->prompt, "Text to continue");
  verb.add_option("-f,--prompt-file", options->prompt_file, "File with the text to continue")
      ->excludes(prompt);
  verb.add_flag("--echo", options->echo, "Print the prompt first");
  verb.add_flag("--no-special", options->no_special, "Special tokens in the prompt are plain text");
  add_sampling_flags(verb, options->flags);
  add_common_options(verb, options->common);
  return [options, &verb] {
    check_sampling_options("generate", given_options(verb), options->flags);
    check_options_are_read(
        "generate", given_options(verb),
        {{{"--echo"}, !options->common.json, "text as output, without --json,"}});
    run(*options);
  };
}

}  // namespace schmidt::cli
