#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <thread>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/base/file_system.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/package/summary.h"
#include "schmidt/serve/server.h"

namespace schmidt::cli {
namespace {

struct ServeVerbOptions {
  CommonOptions common;
  std::string model;
  std::string name;
  kernels::Activations activations = kernels::Activations::kInt8;
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

// "models/small/" is "small", a file "small.gguf" too.
std::string name_of(const std::string& path) {
  const std::filesystem::path name = last_name(path);
  const bool gguf = name.extension() == ".gguf";
  const std::string text = escaped_bytes((gguf ? name.stem() : name).string());
  return text.empty() || text == "." || text == ".." ? "model" : text;
}

// How many of the compressed weights are of each kind: "18 mpo, 12 quantized".
std::string kinds_text(const package::ModelSummary& summary) {
  std::map<std::string, int> kinds;
  for (const package::ModuleSummary& module : summary.modules) {
    if (module.compressed) ++kinds[module.kind];
  }
  std::string text;
  for (const auto& [kind, count] : kinds) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, kind);
  }
  return text.empty() ? "none" : text;
}

void run(const ServeVerbOptions& options) {
  apply_common_options(options.common);
  const io::Checkpoint checkpoint = open_checkpoint(options.model, options.common);
  const package::ModelSummary summary = package::summarize(checkpoint);
  serve::ServedModel served{.name = options.name.empty() ? name_of(options.model) : options.name,
                            .aliases = {options.model},
                            .tokenizer = load_tokenizer(options.model, options.common)};
  served.facts = sizes_json(summary);
  served.facts["compressed_layers"] = kinds_text(summary);

  serve::ServeOptions serve = options.serve;
  serve.http.max_body_bytes = static_cast<size_t>(options.max_body_mb * 1e6);
  serve.api.seed = options.common.seed;
  const std::string name = served.name;
  serve::Server server(load_model(checkpoint, options.common, options.activations),
                       std::move(served), serve);
  std::signal(SIGTERM, remember_signal);
  std::signal(SIGINT, remember_signal);
  const std::string& host = serve.http.host;
  const std::string url = fmt::format(
      "http://{}:{}", host.find(':') != std::string::npos ? "[" + host + "]" : host, server.port());
  if (options.common.json) {
    print_now(io::json_text(
                  nlohmann::ordered_json{{"url", url}, {"port", server.port()}, {"model", name}}) +
              "\n");
  } else {
    print_now(fmt::format("{} is served at {}\n", name, url));
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
  verb.add_option("MODEL", options->model, "Hugging Face folder or .gguf file")->required();
  verb.add_option("--host", serve.http.host, "Address to listen on")->capture_default_str();
  verb.add_option("--port", serve.http.port, "Port to listen on (0: a free one, which is printed)")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  verb.add_option("--api-key", serve.api.api_key,
                  "Answer only requests that bring this key as a bearer token")
      ->envname("SCHMIDT_API_KEY");
  verb.add_option("--name", options->name, "Name of the model in the API (default: the file's)");
  verb.add_option("--slots", serve.slots, "Answers that grow at once")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  verb.add_option("--context", serve.context,
                  "Tokens of prompt and answer (0: the model's, at most 4096)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--queue", serve.max_waiting, "Answers that may wait for a slot")
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
  add_exact_flag(verb, options->activations);
  add_common_options(verb, options->common);
  return [options] { run(*options); };
}

}  // namespace schmidt::cli
