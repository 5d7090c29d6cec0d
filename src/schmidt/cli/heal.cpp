#include <atomic>
#include <cmath>
#include <csignal>
#include <ctime>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/kept_memory.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/interrupted.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/heal_model.h"

namespace schmidt::cli {
namespace {

struct HealVerbOptions {
  CommonOptions common;
  std::string model;
  std::string teacher;
  std::string out;
  std::vector<std::string> data;
  std::vector<double> mix;
  std::string tokens = "1M";
  std::string block_tokens = "0";
  std::string loss_on = "all";
  std::vector<std::string> train = {"factors", "zeros", "dense", "norms"};
  int64_t stages = 1;
  parallel::ExchangeOptions exchange;
  heal::HealOptions heal;
  std::set<std::string> given;  // options on the command line
};

volatile std::sig_atomic_t stop_signal = 0;
std::atomic<int64_t> stopped_at = 0;  // milliseconds of the monotonic clock

void remember_signal(int signal) {
  // Who stops a whole group of processes reaches this one also by way of the program that started
  // it: within this time both are one request.
  constexpr int64_t kOneRequest = 500;
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  const int64_t now = int64_t{1000} * time.tv_sec + time.tv_nsec / 1'000'000;
  if (stop_signal != 0 && now - stopped_at < kOneRequest) return;
  // A second one ends the program at once.
  if (stop_signal != 0) std::signal(signal, SIG_DFL), std::raise(signal);
  stop_signal = signal;
  stopped_at = now;
}

heal::HealOptions heal_options(const HealVerbOptions& options) {
  heal::HealOptions heal = options.heal;
  TORCH_CHECK_VALUE(options.mix.empty() || options.mix.size() == options.data.size(),
                    "[heal] expected a share in --mix for each file of --data, got ",
                    options.mix.size(), " for ", options.data.size(), " files");
  for (size_t i = 0; i < options.data.size(); ++i) {
    heal.data.push_back({options.data[i], options.mix.empty() ? 1.0 : options.mix[i]});
  }
  heal.tokens = parse_token_count(options.tokens);
  heal.block_tokens = parse_token_count(options.block_tokens);
  heal.stream.loss_on =
      options.loss_on == "assistant" ? heal::LossOn::kAssistant : heal::LossOn::kAll;
  heal.stream.seed = options.common.seed;
  heal.trained = {.factors = false, .dense = false, .norms = false};
  for (const std::string& kind : options.train) {
    if (kind == "factors") heal.trained.factors = true;
    if (kind == "codes") heal.trained.codes = true;
    if (kind == "zeros") heal.trained.zeros = true;
    if (kind == "dense") heal.trained.dense = true;
    if (kind == "norms") heal.trained.norms = true;
    if (kind == "embedding") heal.trained.embedding = true;
  }
  const torch::Device device = options.common.torch_device();
  heal.load.device = device;
  heal.load.dtype = options.common.torch_dtype(fastest_dtype(device));
  if (heal.model_level.micro_batch == 0) heal.model_level.micro_batch = heal.model_level.batch;
  return heal;
}

std::vector<std::string> row(const char* name, double before, double after, bool as_perplexity) {
  const auto shown = [&](double v) {
    return fmt::format("{:.4f}", as_perplexity ? std::exp(v) : v);
  };
  return {name, shown(before), shown(after)};
}

nlohmann::ordered_json as_json(const HealVerbOptions& options, const heal::HealResult& result) {
  nlohmann::ordered_json out = sizes_json(*result.summary);
  out["out"] = options.out;
  out["steps"] = result.steps;
  out["ended_early"] = result.ended == heal::Ended::kEarly;
  out["diverged"] = result.ended == heal::Ended::kDiverged;
  out["before"] = result.before.json();
  out["after"] = result.after.json();
  out["skipped_lines"] = result.skipped_lines;
  return out;
}

void print(const HealVerbOptions& options, const heal::HealResult& result) {
  if (options.common.json) {
    fmt::print("{}\n", io::json_text(as_json(options, result)));
    return;
  }
  if (options.heal.stream.held_out > 0 && result.steps > 0) {
    Table table{{"on the held-out sequences", "before", "after"},
                {row("loss", result.before.loss, result.after.loss, false),
                 row("perplexity", result.before.cross_entropy, result.after.cross_entropy, true)}};
    if (!options.teacher.empty()) {
      table.rows.push_back(row("KL from the original", result.before.kl, result.after.kl, false));
    }
    fmt::print("{}\n", table.aligned());
    if (!(result.after.loss < result.before.loss)) {
      fmt::print(
          "no evaluation found a better loss: the parameters are written as they were. A smaller "
          "--learning-rate or more --tokens may gain\n");
    }
  }
  if (result.ended == heal::Ended::kEarly) {
    fmt::print("ended early, after {} steps without a better held-out loss\n", result.steps);
  }
  if (result.ended == heal::Ended::kDiverged) {
    fmt::print(
        "ended at step {}, from where on no loss was finite: the parameters are the best of "
        "before. A smaller --learning-rate may gain more\n",
        result.steps);
  }
  if (result.skipped_lines > 0) {
    fmt::print("{} broken lines of the data were left out\n", result.skipped_lines);
  }
  fmt::print("{}", sizes_text(*result.summary));
  fmt::print("written to {}\n", options.out);
}

/// Settings of one part of a run say nothing where that part is not asked for.
void check_options(const HealVerbOptions& options, const heal::HealOptions& heal) {
  const heal::ModelLevelOptions& model = heal.model_level;
  const bool blocks = heal.block_tokens > 0, whole = heal::model_level_steps(heal) > 0;
  TORCH_CHECK_VALUE(whole || blocks || heal.tokens == 0, "[heal] expected ",
                    heal.model_level.batch * heal.stream.context,
                    " tokens, one step of --batch sequences of --context, or more, got ",
                    heal.tokens);
  const bool measures = whole && heal.stream.held_out > 0;
  const bool asks_teacher = whole && model.weights.kl > 0.0;
  // Given as 0, these say that nothing of the kind is wanted.
  std::set<std::string> given = options.given;
  if (heal.stream.held_out == 0) given.erase("--held-out");
  if (model.evaluate_every == 0) given.erase("--evaluate-every");
  if (model.patience == 0) given.erase("--patience");
  if (heal.top_k == 0) given.erase("--top-k");
  if (model.weights.kl == 0.0) given.erase("--kl");
  if (model.weights.cross_entropy == 0.0) given.erase("--cross-entropy");
  const char* rest = "--tokens beyond those of the block level";
  check_options_are_read(
      "heal", given,
      {{{"--block-epochs", "--block-learning-rate"}, blocks, "--block-tokens above 0"},
       {{"--learning-rate", "--final-share", "--cross-entropy", "--kl", "--held-out",
         "--micro-batch", "--checkpointing"},
        whole,
        rest},
       {{"--evaluate-every"}, measures, "--held-out above 0"},
       {{"--patience"},
        measures && model.evaluate_every > 0,
        "--held-out and --evaluate-every above 0"},
       {{"--top-k"}, asks_teacher, "--kl above 0"},
       {{"--teacher"}, asks_teacher || blocks, "--kl or --block-tokens above 0"},
       {{"--mix"}, options.data.size() > 1, "several files of --data"}});
  TORCH_CHECK_VALUE(whole || !heal.trained.embedding || heal.tokens == 0,
                    "[heal] --train embedding is read with ", rest, " alone");
}

Interrupted interrupted(const HealVerbOptions& options, const heal::HealResult& result) {
  // Another rank may have heard it.
  const int signal = stop_signal != 0 ? stop_signal : SIGTERM;
  const std::string after =
      result.steps > 0 ? fmt::format("stopped after {} steps", result.steps) : "stopped";
  const std::filesystem::path partial = partial_folder(resolved_place(options.out));
  if (!holds_anything(partial)) return {signal, after + " before anything was done"};
  return {signal, fmt::format("{}; the state is saved in {}, and --resume goes on from it", after,
                              partial.string())};
}

/// Throws Interrupted where `interrupted` ends the work.
heal::HealResult heal_as_asked(const HealVerbOptions& options, const NoteFn& note,
                               const Reporter& reporter, std::function<bool()> is_interrupted) {
  keep_freed_memory();
  apply_common_options(options.common);
  const heal::HealOptions heal = heal_options(options);
  const io::Checkpoint student = open_checkpoint(options.model, note);
  std::optional<io::Checkpoint> teacher;
  if (!options.teacher.empty()) teacher = open_checkpoint(options.teacher, note);
  const heal::HealResult result = pipeline::heal_model(
      student, teacher, heal,
      {options.out, options.stages, options.exchange, std::move(is_interrupted)}, reporter);
  if (result.ended == heal::Ended::kInterrupted) throw interrupted(options, result);
  return result;
}

void run(const HealVerbOptions& options) {
  std::signal(SIGTERM, remember_signal);
  std::signal(SIGINT, remember_signal);
  ProgressLine progress(options.common.quiet || parallel::rank() != 0);
  const heal::HealResult result = heal_as_asked(
      options, printed_notes(options.common), progress.reporter(), [] { return stop_signal != 0; });
  progress.clear();
  if (result.summary) print(options, result);
}

nlohmann::ordered_json call(const HealVerbOptions& options, const Caller& caller) {
  const heal::HealResult result =
      heal_as_asked(options, caller.reporter.note, caller.reporter, caller.interrupted);
  return as_json(options, result);
}

}  // namespace

Action add_heal(CLI::App& verb) {
  auto options = std::make_shared<HealVerbOptions>();
  heal::HealOptions& heal = options->heal;
  heal::ModelLevelOptions& model = heal.model_level;
  model.micro_batch = 0;
  heal.stream.held_out = 16;
  add_model_argument(verb, options->model, ", compressed before");
  verb.add_option("--teacher", options->teacher, "The original model")->type_name(kModelValue);
  verb.add_option("--data", options->data, "Conversations (.jsonl) and plain text files")
      ->type_name(kFileValue)
      ->delimiter(',')
      ->required();
  verb.add_option("-o,--out", options->out, "Folder of the healed checkpoint")
      ->type_name(kFolderValue)
      ->required();
  verb.add_flag("--resume", heal.resume, "Continue unfinished work, if there is any");
  verb.add_flag("--force", heal.force,
                "Replace the checkpoint that schmidt wrote there, and drop unfinished work");

  const char* data = "Data";
  verb.add_option("--tokens", options->tokens, "Training tokens in all: 200000, 200k, 1M")
      ->capture_default_str()
      ->group(data);
  verb.add_option("--mix", options->mix,
                  "Share of the tokens for each file (default: equal shares)")
      ->delimiter(',')
      ->check(kPositive)
      ->group(data);
  verb.add_option("--context", heal.stream.context, "Tokens of a sequence")
      ->check(CLI::Range(2, 1 << 20))
      ->capture_default_str()
      ->group(data);
  verb.add_option("--loss-on", options->loss_on, "Which tokens of conversations count in the loss")
      ->check(CLI::IsMember({"all", "assistant"}))
      ->capture_default_str()
      ->group(data);
  verb.add_option("--held-out", heal.stream.held_out,
                  "Sequences kept for measuring, never trained on")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(data);
  verb.add_flag("--skip-bad", heal.stream.skip_bad, "Leave out broken lines of .jsonl files")
      ->group(data);

  const char* training = "Training";
  verb.add_option("--train", options->train,
                  "What is trained: factors (cores and scales), codes (of integers of few bits), "
                  "zeros (their zero points), dense, norms, embedding (where it is dense)")
      ->delimiter(',')
      ->check(CLI::IsMember({"factors", "codes", "zeros", "dense", "norms", "embedding"}))
      ->group(training);
  verb.add_option("--cross-entropy", model.weights.cross_entropy,
                  "Weight of the next token's cross entropy")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--kl", model.weights.kl, "Weight of the KL divergence from the teacher")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--top-k", heal.top_k,
                  "First store the teacher's K likeliest tokens of every position, then train "
                  "without it in memory")
      ->check(kNonNegative)
      ->group(training);
  verb.add_option("--batch", model.batch, "Sequences of a step")
      ->check(kPositive)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--micro-batch", model.micro_batch,
                  "Sequences of one pass, whose gradients add up (default: all of a step)")
      ->check(kPositive)
      ->group(training);
  verb.add_flag("--checkpointing", model.checkpointing,
                "Run every block twice instead of keeping what it computes")
      ->group(training);
  verb.add_option("--learning-rate", model.schedule.peak, "Peak learning rate of the model level")
      ->check(kPositive)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--warmup", model.schedule.warmup,
                  "Share of the steps in which the learning rate rises")
      ->check(CLI::Range(0.0, 0.99))
      ->capture_default_str()
      ->group(training);
  verb.add_option("--final-share", model.schedule.final_share,
                  "Share of the peak learning rate that is left at the end")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(training);
  verb.add_option("--beta2", model.adamw.beta2, "Decay of AdamW's second moment")
      ->check(CLI::Range(0.0, 0.999999))
      ->capture_default_str()
      ->group(training);
  verb.add_option("--weight-decay", model.adamw.weight_decay, "Weight decay of matrices and cores")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--clip", model.clip, "Largest norm of the gradient (0: no limit)")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--block-tokens", options->block_tokens,
                  "Tokens spent on the block level, which comes before the model level")
      ->capture_default_str()
      ->group(training);
  verb.add_option("--block-epochs", heal.block_level.epochs, "Passes of a block over its tokens")
      ->check(kPositive)
      ->capture_default_str()
      ->group(training);
  verb.add_option("--block-learning-rate", heal.block_level.learning_rate,
                  "Peak learning rate of the block level")
      ->check(kPositive)
      ->capture_default_str()
      ->group(training);

  const char* upkeep = "Run";
  verb.add_option("--evaluate-every", model.evaluate_every,
                  "Steps between evaluations of the held-out sequences")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(upkeep);
  verb.add_option("--patience", model.patience,
                  "End the run after so many evaluations without a better loss")
      ->check(kNonNegative)
      ->group(upkeep);
  verb.add_option("--save-minutes", heal.save_minutes, "Minutes between saved states")
      ->check(kNonNegative)
      ->capture_default_str()
      ->group(upkeep);

  const char* ranks = "Under mpirun";
  verb.add_option("--stages", options->stages,
                  "Spread the model's blocks over so many ranks; the others share the sequences")
      ->check(kPositive)
      ->capture_default_str()
      ->group(ranks);
  verb.add_option("--deadline", options->exchange.deadline_seconds,
                  "End where another rank does not answer for so many seconds")
      ->check(kPositive)
      ->capture_default_str()
      ->group(ranks);
  add_common_options(verb, options->common);
  return {[options, &verb] {
            options->given = given_options(verb);
            check_options(*options, heal_options(*options));
          },
          [options] { run(*options); },
          [options](const Caller& caller) { return call(*options, caller); }};
}

}  // namespace schmidt::cli
