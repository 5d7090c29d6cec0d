#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <set>
#include <string_view>
#include <thread>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/loading.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/package/forms_text.h"
#include "schmidt/package/summary.h"
#include "schmidt/serve/model_names.h"
#include "schmidt/serve/server.h"
#include "schmidt/text/utf8.h"

namespace schmidt::cli {
namespace {

struct ServeVerbOptions {
  CommonOptions common;
  std::vector<std::string> models;
  std::vector<std::string> names;  // empty: by the paths
  InferenceOptions inference;
  serve::ServeOptions serve;
  double max_body_mb = 16.0;
  int64_t grace_seconds = 30;
};

constexpr double kMostBodyMb = 1000;

volatile std::sig_atomic_t stop_signal = 0;

void remember_signal(int signal) {
  // A second one ends the program at once.
  if (stop_signal != 0) std::signal(signal, SIG_DFL), std::raise(signal);
  stop_signal = signal;
}

/// A line of UTF-8 text, as it comes through HTTP unchanged.
bool is_line(std::string_view text) {
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  return text::is_valid_utf8(text) && std::ranges::none_of(text, is_control);
}

std::vector<std::string> names_of(const ServeVerbOptions& options) {
  std::vector<std::string> by_path =
      serve::model_names({options.models.begin(), options.models.end()});
  if (options.names.empty()) return by_path;
  TORCH_CHECK_VALUE(options.names.size() == options.models.size(),
                    "[serve] expected --name once for each model, ", options.models.size(),
                    " times, got it ", options.names.size(), " times");
  for (const std::string& name : options.names) {
    TORCH_CHECK_VALUE(!name.empty() && is_line(name),
                      "[serve] expected --name as a line of UTF-8 text");
  }
  const std::set<std::string> different(options.names.begin(), options.names.end());
  TORCH_CHECK_VALUE(different.size() == options.names.size(),
                    "[serve] expected names that differ, got one of --name twice");
  return options.names;
}

serve::LoadedModel load(const std::string& path, const std::string& name,
                        const ServeVerbOptions& options) {
  const io::Checkpoint checkpoint = open_checkpoint(path, options.common);
  const package::ModelSummary summary = package::summarize(checkpoint);
  serve::ServedModel served{
      .name = name, .aliases = {path}, .tokenizer = load_tokenizer(path, options.common)};
  served.facts = sizes_json(summary);
  served.facts["forms"] = package::forms_text(summary);
  return {load_model(checkpoint, options.common, options.inference), std::move(served)};
}

void run(const ServeVerbOptions& options) {
  apply_common_options(options.common);
  const std::string& key = options.serve.api.api_key;
  TORCH_CHECK_VALUE(is_line(key) && !key.starts_with(' ') && !key.ends_with(' '),
                    "[serve] expected --api-key as a line without blanks at its ends, which no "
                    "client can send");
  const std::vector<std::string> names = names_of(options);
  std::vector<serve::LoadedModel> models;
  for (size_t i = 0; i < names.size(); ++i) {
    models.push_back(load(options.models[i], names[i], options));
  }
  serve::ServeOptions serve = options.serve;
  serve.http.max_body_bytes = static_cast<size_t>(options.max_body_mb * 1e6);
  serve.api.seed = options.common.seed;
  serve::Server server(std::move(models), serve);
  std::signal(SIGTERM, remember_signal);
  std::signal(SIGINT, remember_signal);
  const std::string& host = serve.http.host;
  const std::string url = fmt::format(
      "http://{}:{}", host.find(':') != std::string::npos ? "[" + host + "]" : host, server.port());
  if (options.common.json) {
    print_now(io::json_text(nlohmann::ordered_json{
                  {"url", url}, {"port", server.port()}, {"models", names}}) +
              "\n");
  } else {
    print_now(fmt::format("{} {} served at {}\n", fmt::join(names, ", "),
                          names.size() == 1 ? "is" : "are", url));
  }
  while (stop_signal == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  if (!options.common.quiet) fmt::print(stderr, "note: no new requests; the last answers end\n");
  if (!server.drain(std::chrono::seconds(options.grace_seconds)) && !options.common.quiet) {
    fmt::print(stderr, "note: answers that took longer than {} seconds were cut off\n",
               options.grace_seconds);
  }
}

}  // namespace

Action add_serve(CLI::App& verb) {
  auto options = std::make_shared<ServeVerbOptions>();
  serve::ServeOptions& serve = options->serve;
  verb.add_option("MODEL", options->models,
                  "Hugging Face folders, .gguf files, or ids (ORG/NAME) of models in the local "
                  "cache, served side by side")
      ->type_name(kModelValue)
      ->required();
  verb.add_option("--host", serve.http.host, "Address to listen on")->capture_default_str();
  verb.add_option("--port", serve.http.port, "Port to listen on (0: a free one, which is printed)")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb.add_option("--api-key", serve.api.api_key,
                  "Answer only requests that bring this key as a bearer token")
      ->envname("SCHMIDT_API_KEY");
  verb.add_option("--name", options->names,
                  "Name of the model in the API, once for each (default: the file's)")
      ->allow_extra_args(false);
  verb.add_option("--slots", serve.slots, "Answers of each model that grow at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb.add_option("--context", serve.context,
                  "Tokens of prompt and answer (0: the model's, at most 4096)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--queue", serve.max_waiting, "Answers that may wait for a slot of a model")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--prefill-tokens", serve.prefill_tokens,
                  "Tokens of prompts read between two tokens of the answers beside them")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--max-body", options->max_body_mb, "Largest body of a request in MB")
      ->check(CLI::Validator(
          [](const std::string& text) {
            const double mb = std::strtod(text.c_str(), nullptr);
            return mb >= 0.001 && mb <= kMostBodyMb
                       ? std::string()
                       : fmt::format("expected 0.001 to {} MB, got {}", kMostBodyMb, text);
          },
          ""))
      ->capture_default_str();
  verb.add_option("--grace", options->grace_seconds,
                  "Seconds that running answers have to end after SIGTERM or SIGINT")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  add_inference_options(verb, options->inference);
  add_common_options(verb, options->common);
  return [options] { run(*options); };
}

}  // namespace schmidt::cli
