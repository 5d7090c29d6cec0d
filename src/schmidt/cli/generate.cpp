#include <string>
#include <vector>

#include <unistd.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sampling.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/text/utf8.h"

namespace schmidt::cli {
namespace {

struct GenerateVerbOptions {
  CommonOptions common;
  std::string model;
  std::vector<std::string> prompts;
  std::string prompt_file;  // "-" and, from a pipe, "": standard input
  bool echo = false;
  bool no_special = false;
  InferenceOptions inference;
  SamplingFlags flags;
};

// The end of the last line belongs to the file or to `echo`, not to the prompt.
std::string without_line_end(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::string read_prompt(const GenerateVerbOptions& options) {
  if (options.prompt_file == "-") return without_line_end(read_stdin());
  if (!options.prompt_file.empty()) return without_line_end(read_text(options.prompt_file));
  return ::isatty(STDIN_FILENO) != 0 ? "" : without_line_end(read_stdin());
}

std::vector<std::string> prompts_of(const GenerateVerbOptions& options) {
  std::vector<std::string> prompts = options.prompts;
  if (prompts.empty()) prompts.push_back(read_prompt(options));
  for (const std::string& prompt : prompts) {
    TORCH_CHECK_VALUE(!prompt.empty(),
                      "[generate] expected a prompt (--prompt, --prompt-file or standard input), "
                      "got an empty one");
    TORCH_CHECK_VALUE(text::is_valid_utf8(prompt),
                      "[generate] expected --prompt in UTF-8, got other bytes");
  }
  return prompts;
}

void run(const GenerateVerbOptions& options) {
  apply_common_options(options.common);
  const std::vector<std::string> prompts = prompts_of(options);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  const auto tokenizer = load_tokenizer(options.model, options.common);
  const model::Model model = load_model(checkpoint, options.common, options.inference);

  const auto draft = load_draft(options.flags, tokenizer, options.common, options.inference);
  const bool live = !options.common.json;
  bool said_two_bos = !adds_bos(tokenizer);  // two that the text brings are meant
  std::vector<std::vector<int64_t>> ids;
  for (const std::string& prompt : prompts) {
    ids.push_back(tokenizer.encode(prompt, {!options.no_special, /*add_special=*/true}));
    note_two_bos(tokenizer, ids.back(), options.common, said_two_bos);
    TORCH_CHECK_VALUE(std::cmp_less(ids.back().size(), model.config().max_positions),
                      "[generate] expected fewer than ", model.config().max_positions,
                      " tokens, the context, in prompt ", ids.size(), ", got ", ids.back().size());
  }
  const auto show = [&](const std::string& piece) {
    if (live) print_now(piece);
  };
  int64_t tokens = 0;
  double seconds = 0.0;
  nlohmann::ordered_json continuations = nlohmann::ordered_json::array();
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (options.echo && live) print_now(prompts[i]);
    model::KeptSequence kept;  // each as if it were the only one
    const Continuation result =
        continue_prompt(model, tokenizer, ids[i], Join::kContinuation, options.flags,
                        options.common, kept, draft.get(), show);
    if (live) print_now("\n");
    continuations.push_back({{"prompt", prompts[i]},
                             {"prompt_tokens", ids[i].size()},
                             {"text", result.text},
                             {"ids", result.ids},
                             {"finish_reason", result.finish_reason}});
    tokens += static_cast<int64_t>(result.ids.size());
    seconds += result.seconds;
  }
  if (options.common.verbose) {
    fmt::print(stderr, "note: {} tokens in {:.3f} seconds, prompts included\n", tokens, seconds);
  }
  if (live) {
    note_draft(draft.get(), options.common);
    return;
  }
  nlohmann::ordered_json out = {{"model", escaped_bytes(options.model)}};
  if (prompts.size() == 1) {
    out.update(continuations.front());
  } else {
    out["continuations"] = std::move(continuations);
  }
  if (draft != nullptr) out["draft"] = to_json(draft->draft);
  print_now(out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

}  // namespace

Action add_generate(CLI::App& verb) {
  auto options = std::make_shared<GenerateVerbOptions>();
  add_model_argument(verb, options->model);
  auto* prompt = verb.add_option("-p,--prompt", options->prompts,
                                 "Text to continue; given several times, each by itself")
                     ->type_name("TEXT")
                     ->allow_extra_args(false);
  verb.add_option("-f,--prompt-file", options->prompt_file,
                  "File with the text to continue, without its last line's end; - and a pipe: "
                  "standard input")
      ->type_name(kFileValue)
      ->excludes(prompt);
  verb.add_flag("--echo", options->echo, "Print the prompt first");
  verb.add_flag("--no-special", options->no_special,
                "Take special tokens in the prompt as plain text");
  add_sampling_flags(verb, options->flags);
  add_inference_options(verb, options->inference);
  add_cache_type_option(verb, options->inference.cache_type);
  add_common_options(verb, options->common);
  return [options, &verb] {
    check_sampling_options("generate", given_options(verb), options->flags);
    check_options_are_read(
        "generate", given_options(verb),
        {{{"--echo"}, !options->common.json, "output as text (without --json)"}});
    run(*options);
  };
}

}  // namespace schmidt::cli
