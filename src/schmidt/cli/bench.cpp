#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <numeric>

#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include "schmidt/cli/console.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/kernels/memory_speed.h"
#include "schmidt/model/likeliest_search.h"
#include "schmidt/package/summary.h"

namespace schmidt::cli {
namespace {

struct BenchOptions {
  CommonOptions common;
  std::vector<std::string> models;
  int64_t prompt = 512;
  int64_t generate = 128;
  int64_t batch = 1;
  int64_t repetitions = 5;
  std::string format = "md";
  InferenceOptions inference;
};

// One model and what was measured of it, tokens a second for each repetition.
struct Subject {
  std::string path;
  model::Model model;
  int64_t parameters = 0;
  int64_t bytes = 0;
  double bytes_per_token = 0.0;  // read in decoding, weights and cache
  std::vector<double> prefill, decode;
};

struct Spread {
  double mean = 0.0, deviation = 0.0;
};

Spread spread(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Spread s;
  s.mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  for (const double v : values) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = values.size() > 1 ? std::sqrt(s.deviation / (n - 1.0)) : 0.0;
  return s;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

Subject load_subject(const std::string& path, const BenchOptions& options) {
  const io::Checkpoint checkpoint = open_checkpoint(path, options.common);
  Subject subject{path, load_model(checkpoint, options.common, options.inference)};
  subject.parameters = package::summarize(checkpoint).parameters;
  subject.bytes = subject.model.bytes();
  return subject;
}

// What is read for each token that is decoded: the weights once for the whole batch, keys and
// values of as many tokens as there are on average.
double bytes_per_token(const model::Model& model, const BenchOptions& options) {
  const auto batch = static_cast<double>(options.batch), n = static_cast<double>(options.generate);
  const auto of_token = static_cast<double>(model.make_cache(1, 1).bytes_per_token());
  return static_cast<double>(model.bytes_of_step()) / batch + of_token * (n + 1.0) / 2.0;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Copying a number off the device waits for all work before it.
void wait(const torch::Tensor& logits) { logits.flatten()[0].item<float>(); }

double prefill_rate(const Subject& s, const BenchOptions& options, const torch::Tensor& ids) {
  model::KvCache cache = s.model.make_cache(options.batch, options.prompt);
  const std::vector<int64_t> lengths(static_cast<size_t>(options.batch), options.prompt);
  const double t = seconds_of([&] { wait(s.model.step(ids, lengths, cache)); });
  return static_cast<double>(options.batch * options.prompt) / t;
}

double decode_rate(const Subject& s, const BenchOptions& options) {
  model::KvCache cache = s.model.make_cache(options.batch, options.generate);
  const std::vector<int64_t> lengths(static_cast<size_t>(options.batch), 1);
  torch::Tensor next = torch::ones({options.batch, 1}, torch::kInt64).to(s.model.device());
  const double t = seconds_of([&] {
    for (int64_t i = 0; i < options.generate; ++i) {
      const torch::Tensor states = s.model.step_states(next, lengths, lengths, cache);
      const auto likeliest = s.model.find_likeliest(states);
      next = likeliest ? torch::tensor(*likeliest).unsqueeze(1)
                       : s.model.logits(states).argmax(-1, /*keepdim=*/true);
    }
    next.cpu();
  });
  return static_cast<double>(options.batch * options.generate) / t;
}

int64_t peak_memory_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

void measure(std::vector<Subject>& subjects, const BenchOptions& options) {
  const c10::InferenceMode guard;
  ProgressLine line(options.common.quiet);
  const ProgressFn progress = line.callback();
  const auto total = static_cast<int64_t>(subjects.size()) * (options.repetitions + 1);
  int64_t done = 0;
  const torch::Tensor ids =
      torch::arange(options.batch * std::max<int64_t>(options.prompt, 1), torch::kInt64)
          .view({options.batch, -1});
  // Models take turns, so that a drift of the machine's speed hits all of them;
  // round 0 warms up and does not count.
  for (int64_t round = 0; round <= options.repetitions; ++round) {
    for (Subject& s : subjects) {
      if (progress) progress({"bench", s.path, done++, total, "rounds"});
      if (options.prompt > 0) {
        const double rate = prefill_rate(
            s, options, ids.remainder(s.model.config().vocab_size).to(s.model.device()));
        if (round > 0) s.prefill.push_back(rate);
      }
      if (options.generate > 0) {
        const double rate = decode_rate(s, options);
        if (round > 0) s.decode.push_back(rate);
        // Who decodes for long comes to search for the likeliest tokens, as `generate` does.
        const int64_t states = options.batch * options.generate;
        for (int64_t n = states; round == 0 && n < model::LikeliestSearch::kStatesBefore;
             n += states) {
          decode_rate(s, options);
        }
      }
    }
  }
}

// `read_speed`: bytes a second that this machine reads, 0 where it was not measured.
void print(const std::vector<Subject>& subjects, const BenchOptions& options, double read_speed) {
  struct Row {
    const Subject* subject;
    std::string test;
    const std::vector<double>* rates;
    const std::vector<double>* first;  // of the first model: the ratio's denominator
    double bytes_per_token;            // 0: not known
  };
  std::vector<Row> rows;
  for (const Subject& s : subjects) {
    if (options.prompt > 0) {
      rows.push_back(
          {&s, fmt::format("pp{}", options.prompt), &s.prefill, &subjects[0].prefill, 0.0});
    }
    if (options.generate > 0) {
      rows.push_back({&s, fmt::format("tg{}", options.generate), &s.decode, &subjects[0].decode,
                      s.bytes_per_token});
    }
  }
  const std::string dtype = toString(options.common.torch_dtype(torch::kFloat32));
  const auto ratio = [](const Row& row) {
    std::vector<double> ratios;
    for (size_t i = 0; i < row.rates->size(); ++i)
      ratios.push_back((*row.rates)[i] / (*row.first)[i]);
    return median(std::move(ratios));
  };
  if (options.format == "json" || options.common.json) {
    nlohmann::ordered_json out = {{"device", options.common.device},
                                  {"dtype", dtype},
                                  {"threads", at::get_num_threads()},
                                  {"batch", options.batch},
                                  {"peak_memory_bytes", peak_memory_bytes()}};
    out["cache_type"] = name_of(options.inference.cache_type);
    if (read_speed > 0.0) out["read_bytes_per_second"] = read_speed;
    for (const Row& row : rows) {
      const Spread s = spread(*row.rates);
      out["results"].push_back({{"model", row.subject->path},
                                {"parameters", row.subject->parameters},
                                {"weight_bytes", row.subject->bytes},
                                {"test", row.test},
                                {"tokens_per_second", s.mean},
                                {"stddev", s.deviation},
                                {"ratio_to_first", ratio(row)},
                                {"samples", *row.rates}});
      if (row.bytes_per_token == 0.0) continue;
      out["results"].back()["bytes_per_token"] = row.bytes_per_token;
      if (read_speed == 0.0) continue;
      out["results"].back()["share_of_read_speed"] = s.mean * row.bytes_per_token / read_speed;
    }
    fmt::print("{}\n", io::json_text(out));
    return;
  }
  Table table;
  table.header = {"model", "parameters", "weights", "dtype", "threads",    "batch",
                  "test",  "t/s",        "+-",      "ratio", "read/token", "of read speed"};
  for (const Row& row : rows) {
    const Spread s = spread(*row.rates);
    table.rows.push_back(
        {row.subject->path, human_count(static_cast<double>(row.subject->parameters)),
         human_bytes(static_cast<double>(row.subject->bytes)), dtype,
         std::to_string(at::get_num_threads()), std::to_string(options.batch), row.test,
         fmt::format("{:.2f}", s.mean), fmt::format("{:.2f}", s.deviation),
         fmt::format("{:.2f}", ratio(row)),
         row.bytes_per_token > 0.0 ? human_bytes(row.bytes_per_token) : "",
         row.bytes_per_token > 0.0 && read_speed > 0.0
             ? fmt::format("{:.0f} %", 100.0 * s.mean * row.bytes_per_token / read_speed)
             : ""});
  }
  fmt::print("{}", options.format == "csv" ? table.csv() : table.markdown());
  if (options.format == "md") {
    fmt::print(
        "\npeak memory of the process: {}; ratio: to the first model, median over {} rounds "
        "in turn\n",
        human_bytes(static_cast<double>(peak_memory_bytes())), options.repetitions);
    if (read_speed > 0.0) {
      fmt::print("read speed of this machine: {} a second\n", human_bytes(read_speed));
    }
  }
}

void run(const BenchOptions& options) {
  apply_common_options(options.common);
  std::vector<Subject> subjects;
  for (const std::string& path : options.models) {
    subjects.push_back(load_subject(path, options));
    const int64_t longest = std::max(options.prompt, options.generate);
    const int64_t context = subjects.back().model.config().max_positions;
    TORCH_CHECK_VALUE(longest <= context, "[bench] expected at most the context of ", path, ", ",
                      context, " tokens, got ", longest);
  }
  measure(subjects, options);
  if (options.generate > 0) {
    for (Subject& s : subjects) s.bytes_per_token = bytes_per_token(s.model, options);
  }
  const bool on_cpu = options.common.torch_device().is_cpu();
  print(subjects, options, on_cpu ? kernels::measure_read_speed() : 0.0);
}

}  // namespace

Action add_bench(CLI::App& verb) {
  auto options = std::make_shared<BenchOptions>();
  verb.add_option(
          "MODEL", options->models,
          "Hugging Face folders, .gguf files, or ids (ORG/NAME) of models in the local cache")
      ->type_name(kModelValue)
      ->required();
  verb.add_option("-p,--n-prompt", options->prompt, "Tokens of the prefill test (0: none)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("-n,--n-gen", options->generate, "Tokens of the decode test (0: none)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("-b,--batch", options->batch, "Sequences computed at once")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  verb.add_option("-r,--repetitions", options->repetitions, "Measured rounds")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("-o,--output", options->format, "Format of the table: md, csv or json")
      ->check(CLI::IsMember({"md", "csv", "json"}))
      ->capture_default_str();
  add_inference_options(verb, options->inference);
  add_cache_type_option(verb, options->inference.cache_type);
  add_common_options(verb, options->common);
  return {[options, &verb] {
            check_options_are_read("bench", given_options(verb),
                                   {{{"--output"},
                                     !options->common.json || options->format == "json",
                                     "output as text (without --json)"}});
            TORCH_CHECK_VALUE(options->prompt > 0 || options->generate > 0,
                              "[bench] expected -p or -n above 0, got both 0");
          },
          [options] { run(*options); }};
}

}  // namespace schmidt::cli
