#include <algorithm>
#include <chrono>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <system_error>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/escaped_bytes.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/held_folder.h"
#include "schmidt/base/memory.h"
#include "schmidt/base/output_place.h"
#include "schmidt/base/processor.h"
#include "schmidt/cli/child_program.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/interrupted.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/recipe_schema.h"
#include "schmidt/cli/run_forecast.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/cli/stage_command.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/package/summary.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/run_record.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  CommonOptions common;
  std::string recipe, out;
  std::vector<std::string> set;
  bool dry_run = false, force = false, schema = false;
  SharedOptions shared;  // of the common ones, those on the command line
};

pipeline::RecipeVariables variables_of(const RunOptions& options) {
  pipeline::RecipeVariables variables;
  for (const std::string& text : options.set) {
    const size_t equals = text.find('=');
    TORCH_CHECK_VALUE(equals != text.npos && equals > 0, "[run] --set expected NAME=VALUE, got \"",
                      text, "\"");
    variables[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return variables;
}

/// A recipe with what is known of its stages.
struct Run {
  fs::path out;
  fs::path recipe;
  std::vector<StageCommand> stages;
  std::vector<std::string> keys;  ///< of all that decides each result
  std::vector<bool> finished;
  pipeline::RunRecord record;
  pipeline::RunRecord recorded;  ///< as the folder holds it
  std::vector<StageForecast> forecasts;
  double free_memory = 0.0;  ///< 0: not known
  double free_disk = 0.0;
};

/// Of a file its size and time, of a folder those of all in it.
std::string state_of(const fs::path& path) {
  if (is_folder(path)) {
    std::vector<fs::path> entries = folder_entries(path);
    std::ranges::sort(entries);
    std::string state;
    for (const fs::path& entry : entries) state += last_name(entry) + ": " + state_of(entry) + "\n";
    return state;
  }
  if (!is_plain_file(path)) return "";
  const auto time = fs::last_write_time(path).time_since_epoch().count();
  return fmt::format("{} bytes of {}", bytes_of_file(path), time);
}

/// What tells whether an input is still the same: a model's contents, others' sizes and times.
std::string identity_of(const StageInput& input, KnownModels& models) {
  std::string identity;
  if (input.kind == ValueKind::kModel) identity = models.identity(input.path);
  return identity.empty() ? state_of(input.path) : identity;
}

std::string key_of(const Run& run, const StageCommand& stage, KnownModels& models) {
  package::Fingerprint key;
  const auto add = [&](const std::string& text) {
    key.add(std::to_string(text.size()) + ":").add(text);
  };
  add(stage.verb->name);
  for (const std::string& decision : stage.decides) add(decision);
  for (const StageInput& input : stage.inputs) {
    add(input.stage >= 0 ? run.keys[static_cast<size_t>(input.stage)] : identity_of(input, models));
  }
  return key.hex();
}

bool is_finished(const Run& run, size_t index) {
  const StageCommand& stage = run.stages[index];
  const auto known = run.record.stages.find(stage.name);
  return known != run.record.stages.end() && known->second.finished &&
         !known->second.result.is_null() && known->second.verb == stage.verb->name &&
         known->second.key == run.keys[index] && path_exists(stage.result);
}

double free_disk_at(fs::path folder) {
  while (!path_exists(folder) && folder.has_relative_path()) folder = folder.parent_path();
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  return error ? 0.0 : static_cast<double>(space.available);
}

/// As its verb is called for a stage.
std::vector<std::string> command_of(const StageCommand& stage) {
  std::vector<std::string> command = {stage.verb->name};
  command.insert(command.end(), stage.arguments.begin(), stage.arguments.end());
  return command;
}

/// What the record says of the recipe before anything of it runs.
void record_recipe(Run& run, KnownModels& models) {
  std::map<std::string, std::string> places;  // of each model, by what it holds: the first name
  run.record.recipe.clear();
  run.record.models.clear();
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageCommand& stage = run.stages[i];
    pipeline::RecordedStage& recorded =
        run.record.recipe.emplace_back(pipeline::RecordedStage{stage.name, stage.verb->name, {}});
    for (const StageInput& input : stage.inputs) {
      if (input.stage >= 0) {
        const std::string& name = run.stages[static_cast<size_t>(input.stage)].name;
        recorded.inputs.push_back({input.option, name, ""});
        continue;
      }
      const std::string given = escaped_bytes(input.path.string());
      std::string model;
      if (input.kind == ValueKind::kModel) model = models.identity(input.path);
      const auto [known, is_new] = places.emplace(model.empty() ? given : model, given);
      const std::string& path = known->second;
      recorded.inputs.push_back({input.option, "", path});
      if (model.empty() || !is_new) continue;
      const package::ModelSummary summary = package::summarize(io::Checkpoint::open(input.path));
      run.record.models.push_back(
          {path, escaped_bytes(io::model_name(input.path)), summary.parameters, summary.bytes});
    }
    if (run.finished[i] && run.record.stages.at(stage.name).command.empty()) {
      run.record.stages.at(stage.name).command = command_of(stage);
    }
  }
}

fs::path folder_of(const RunOptions& options) {
  const fs::path out = fs::path(options.out).lexically_normal();
  return out.has_filename() ? out : out.parent_path();  // "results/"
}

Run read_recipe(const RunOptions& options, const CommandForm& program) {
  Run run{.out = folder_of(options), .recipe = options.recipe};
  const pipeline::RunRecipe recipe =
      pipeline::read_run_recipe(options.recipe, run.out, variables_of(options));
  run.stages = stage_commands(recipe, program, run.out, options.shared);
  return run;
}

/// With what its folder says of it, and what its stages will take.
Run prepared(const RunOptions& options, Run run) {
  run.record = pipeline::read_run_record(run.out);
  KnownModels models;
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageCommand& stage = run.stages[i];
    run.keys.push_back(key_of(run, stage, models));
    run.finished.push_back(!options.force && is_finished(run, i));
    TORCH_CHECK_VALUE(run.record.stages.contains(stage.name) || !path_exists(stage.result),
                      "[run] ", stage.result.string(),
                      " exists and is no result of this run; expected ",
                      "another folder or another name of the stage \"", stage.name, "\"");
  }
  run.recorded = run.record;
  record_recipe(run, models);
  run.forecasts = forecast_run(run.recipe, run.stages, run.finished, models);
  run.free_memory = static_cast<double>(available_bytes());
  run.free_disk = free_disk_at(resolved_place(run.out));
  return run;
}

/// Throws c10::ValueError for the first stage that this machine cannot hold.
void check_fits(const Run& run) {
  double written = 0.0;
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageForecast& forecast = run.forecasts[i];
    const StageCommand& stage = run.stages[i];
    const std::string where = fmt::format("{}: {}: stage \"{}\"", run.recipe.string(),
                                          pipeline::place_text(stage.place), stage.name);
    const std::vector<std::string> device = stage.given("--device");
    const bool on_cpu = device.empty() || device.front() == "cpu";
    TORCH_CHECK_VALUE(run.finished[i] || on_cpu || at::globalContext().hasCUDA(), where,
                      " computes with CUDA; expected a LibTorch with it and a GPU, found none");
    TORCH_CHECK_VALUE(!forecast.memory || !on_cpu || run.free_memory == 0.0 ||
                          *forecast.memory <= run.free_memory,
                      where, " takes ", human_bytes(forecast.memory.value_or(0)),
                      " of memory; expected no more than the ", human_bytes(run.free_memory),
                      " that are free");
    written += forecast.bytes.value_or(0);
    TORCH_CHECK_VALUE(run.free_disk == 0.0 || written <= run.free_disk, where,
                      " and those before it write ", human_bytes(written),
                      "; expected no more than the ", human_bytes(run.free_disk),
                      " that are free at ", run.out.string());
  }
}

std::string inputs_text(const Run& run, const StageCommand& stage) {
  if (stage.verb->reads_run) return "all above";
  std::vector<std::string> names;
  for (const StageInput& input : stage.inputs) {
    std::string name = input.stage >= 0 ? run.stages[static_cast<size_t>(input.stage)].name
                                        : last_name(input.path);
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string does_text(const StageCommand& stage) {
  return stage.launcher.empty()
             ? stage.verb->name
             : fmt::format("{} by {}", stage.verb->name, fmt::join(stage.launcher, " "));
}

void print_forecast(const RunOptions& options, const Run& run) {
  if (options.common.json) {
    nlohmann::ordered_json out = {{"out", run.out.string()},
                                  {"free_memory_bytes", run.free_memory},
                                  {"free_disk_bytes", run.free_disk}};
    for (size_t i = 0; i < run.stages.size(); ++i) {
      const StageCommand& stage = run.stages[i];
      const StageForecast& forecast = run.forecasts[i];
      nlohmann::ordered_json& entry = out["stages"].emplace_back();
      entry = {{"name", stage.name},
               {"verb", stage.verb->name},
               {"finished", static_cast<bool>(run.finished[i])},
               {"result", stage.result.string()}};
      if (!stage.launcher.empty()) entry["launcher"] = stage.launcher;
      if (forecast.bytes) entry["bytes"] = *forecast.bytes;
      if (forecast.memory) entry["memory_bytes"] = *forecast.memory;
      if (forecast.seconds) entry["seconds"] = *forecast.seconds;
    }
    fmt::print("{}\n", io::json_text(out));
    return;
  }
  Table table{{"stage", "does", "reads", "writes", "memory", "time"}, {}};
  const auto shown = [](const std::optional<double>& value, std::string (*text)(double)) {
    return value ? text(*value) : std::string("-");
  };
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageCommand& stage = run.stages[i];
    const StageForecast& forecast = run.forecasts[i];
    table.rows.push_back({stage.name, does_text(stage), inputs_text(run, stage)});
    std::vector<std::string>& row = table.rows.back();
    if (run.finished[i]) {
      const pipeline::StageRecord& record = run.record.stages.at(stage.name);
      row.insert(row.end(), {human_bytes(static_cast<double>(record.bytes)), "-", "done"});
    } else {
      row.insert(row.end(),
                 {shown(forecast.bytes, human_bytes), shown(forecast.memory, human_bytes),
                  shown(forecast.seconds, human_seconds)});
    }
  }
  fmt::print("{}\nfree: {} of memory, {} of disk at {}. Nothing was written.\n", table.aligned(),
             human_bytes(run.free_memory), human_bytes(run.free_disk), run.out.string());
}

std::string shown(const nlohmann::ordered_json& number, int digits) {
  if (!number.is_number()) return "not finite";  // JSON has no other word for it than null
  return fmt::format("{:.{}f}", number.get<double>(), digits);
}

/// What stands for a stage's result in the last table.
std::string result_text(const pipeline::StageRecord& record) {
  const nlohmann::ordered_json& result = record.result;
  if (!result.is_object()) return "";
  std::vector<std::string> parts;
  if (result.contains("keep") && result.contains("bytes")) {
    parts.push_back(
        fmt::format("{:.1f} % of the parameters", 100.0 * result["keep"].get<double>()));
  }
  for (const auto& text : result.value("texts", nlohmann::ordered_json::array())) {
    parts.push_back("perplexity " + shown(text["perplexity"], 4));
    if (text.contains("kl")) {
      parts.back() += fmt::format(" (KL {})", shown(text["kl"]["mean"], 4));
    }
  }
  if (record.verb == "bench") {
    for (const auto& test : result.value("results", nlohmann::ordered_json::array())) {
      parts.push_back(fmt::format("{} {} t/s", test["test"].get<std::string>(),
                                  shown(test["tokens_per_second"], 1)));
    }
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

void print_results(const RunOptions& options, const Run& run) {
  nlohmann::ordered_json out = {{"out", run.out.string()}};
  Table table{{"stage", "does", "bytes", "time", "result"}, {}};
  for (size_t i = 0; i < run.stages.size(); ++i) {
    const StageCommand& stage = run.stages[i];
    const pipeline::StageRecord& record = run.record.stages.at(stage.name);
    out["stages"].push_back({{"name", stage.name},
                             {"verb", stage.verb->name},
                             {"done_before", static_cast<bool>(run.finished[i])},
                             {"path", stage.result.string()},
                             {"bytes", record.bytes},
                             {"seconds", record.seconds},
                             {"result", record.result}});
    table.rows.push_back(
        {stage.name, stage.verb->name, human_bytes(static_cast<double>(record.bytes)),
         run.finished[i] ? "before" : human_seconds(record.seconds), result_text(record)});
  }
  if (options.common.json) {
    fmt::print("{}\n", io::json_text(out));
  } else {
    fmt::print("{}written to {}\n", table.aligned(), run.out.string());
  }
}

uint64_t bytes_at(const fs::path& path) {
  if (is_plain_file(path)) return bytes_of_file(path);
  uint64_t bytes = 0;
  for (const fs::path& entry : folder_entries(path)) bytes += bytes_at(entry);
  return bytes;
}

/// A result that the recipe does not ask for any more, and what was unfinished of it.
void remove_outdated(const StageCommand& stage) {
  remove_tree(stage.result);
  for (const fs::path& path : stage.work_places()) remove_tree(path);
}

/// What the verb would have printed of a result that it has written, as far as others ask for it;
/// none where that is not to be seen.
std::optional<nlohmann::ordered_json> printed_of(const StageCommand& stage) {
  const std::string_view verb = stage.verb->name;
  if (verb == "export") return std::nullopt;
  if (pipeline::makes_model(verb)) {
    return sizes_json(package::summarize(io::Checkpoint::open(stage.result)));
  }
  if (!stage.verb->is_printed) return nlohmann::ordered_json::object();
  return nlohmann::ordered_json(io::read_json_object(stage.result));
}

pipeline::RecordedMachine machine_now() {
  const ProcessorFacts processor = processor_facts();
  pipeline::RecordedMachine machine{processor.name, processor.usable, machine_bytes(), {}};
  for (const kernels::InstructionSet set : kernels::instruction_sets()) {
    if (kernels::supported(set)) machine.instruction_sets.emplace_back(kernels::name_of(set));
  }
  return machine;
}

/// In UTC, to the second: "2026-01-31T23:59:59Z".
std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[sizeof "2026-01-31T23:59:59Z"];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

[[noreturn]] void fail(const StageCommand& stage, const ChildEnd& end) {
  if (end.killed_by == 0) throw FailedStage(end.code);
  TORCH_CHECK_VALUE(end.killed_by != SIGKILL, "[run] stage \"", stage.name,
                    "\" was killed, perhaps for want of memory; the same command goes on with it");
  throw std::runtime_error(
      fmt::format("stage \"{}\" was ended by signal {}", stage.name, end.killed_by));
}

/// Runs a stage's verb, whose result the record gets. Returns the signal that came meanwhile, or 0.
int run_verb(const RunOptions& options, Run& run, size_t index) {
  const StageCommand& stage = run.stages[index];
  pipeline::StageRecord& record = run.record.stages[stage.name];
  std::vector<std::string> arguments = record.command;
  if (stage.verb->goes_on) arguments.emplace_back("--resume");
  for (const auto& [asked, option] :
       {std::pair(options.common.quiet, "--quiet"), {options.common.verbose, "--verbose"}}) {
    if (asked && stage.parsed->get_option_no_throw(option) != nullptr) {
      arguments.emplace_back(option);
    }
  }
  const auto start = std::chrono::steady_clock::now();
  const ChildEnd end = run_this_program(arguments, stage.launcher);
  record.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  pipeline::write_run_record(run.out, run.record);
  const bool done = end.code == 0 && end.killed_by == 0;
  if (!done && end.stopped_by != 0) {
    throw Interrupted(end.stopped_by,
                      fmt::format("stopped in stage {} of {}, {}; the same command goes on",
                                  index + 1, run.stages.size(), stage.name));
  }
  if (!done) fail(stage, end);
  record.result = nlohmann::ordered_json::parse(end.output, nullptr, /*allow_exceptions=*/false);
  TORCH_CHECK_VALUE(!record.result.is_discarded(), "[run] stage \"", stage.name,
                    "\": expected one ",
                    "JSON object on standard output, of the first rank alone, got ",
                    end.output.size(), " bytes of other text");
  if (!stage.writes_result) {
    write_file_atomically(stage.result, io::json_text(record.result, 1) + "\n");
  }
  record.result.erase("layers");  // they stand in what was written
  return end.stopped_by;
}

void run_stage(const RunOptions& options, Run& run, size_t index) {
  const StageCommand& stage = run.stages[index];
  pipeline::StageRecord& record = run.record.stages[stage.name];
  const bool is_same = record.key == run.keys[index] && record.verb == stage.verb->name;
  const bool goes_on = is_same && (!record.finished || record.result.is_null());
  // What a verb writes appears whole: a kill came between that and the record.
  std::optional<nlohmann::ordered_json> printed;
  if (goes_on && path_exists(stage.result)) printed = printed_of(stage);
  if (!goes_on || (!printed && path_exists(stage.result))) {
    remove_outdated(stage);
    record = {.verb = stage.verb->name, .key = run.keys[index]};
  }
  if (printed) {
    record.result = std::move(*printed);
  } else {
    for (const fs::path& figure : stage.figures()) remove_file(figure);  // of no result
    record.finished = false;
    record.command = command_of(stage);
    record.program = "schmidt " SCHMIDT_VERSION;
    record.machine = machine_now();
  }
  pipeline::write_run_record(run.out, run.record);
  const int stopped_by = record.result.is_null() ? run_verb(options, run, index) : 0;
  record.bytes = bytes_at(stage.result);
  record.ended = time_now();
  record.finished = true;
  pipeline::write_run_record(run.out, run.record);
  if (stopped_by != 0) {
    throw Interrupted(stopped_by, fmt::format("stopped after stage {} of {}, {}; the same command "
                                              "goes on",
                                              index + 1, run.stages.size(), stage.name));
  }
}

void follow(const RunOptions& options, Run& run) {
  check_fits(run);
  if (run.record != run.recorded) pipeline::write_run_record(run.out, run.record);
  for (size_t i = 0; i < run.stages.size(); ++i) {
    if (!options.common.quiet) {
      fmt::print(stderr, "stage {} of {}: {} {}{}\n", i + 1, run.stages.size(),
                 run.stages[i].verb->name, run.stages[i].name,
                 run.finished[i] ? ", done before" : "");
    }
    if (!run.finished[i]) run_stage(options, run, i);
  }
  print_results(options, run);
}

void run(const RunOptions& options, const CommandForm& program) {
  if (options.schema) {
    print_now(io::json_text(recipe_schema(program), 1) + "\n");
    return;
  }
  TORCH_CHECK_VALUE(!options.recipe.empty() && !options.out.empty(),
                    "[run] expected RECIPE and --out, or --schema");
  TORCH_CHECK_VALUE(parallel::size() == 1, "[run] expected one process, got ", parallel::size(),
                    " ranks of mpirun");
  Run asked = read_recipe(options, program);
  if (options.dry_run) {
    const Run foretold = prepared(options, std::move(asked));
    print_forecast(options, foretold);
    flush_output();
    check_fits(foretold);
    return;
  }
  // Before it is read what another run may be writing.
  const HeldFolder held(resolved_place(asked.out), [&](const std::string&) {
    return path_exists(asked.out / pipeline::kRunRecordFile);
  });
  Run found = prepared(options, std::move(asked));
  follow(options, found);
}

}  // namespace

Action add_run(CLI::App& verb) {
  auto options = std::make_shared<RunOptions>();
  CommonOptions& common = options->common;
  verb.add_option("RECIPE", options->recipe, "A .yaml file with the stages")->type_name(kFileValue);
  verb.add_option("-o,--out", options->out,
                  "Folder of all results; stages that are done there are not done again")
      ->type_name(kFolderValue);
  verb.add_option("--set", options->set, "A variable's value; may be given for several")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  verb.add_flag("--dry-run", options->dry_run,
                "Print what each stage reads, writes and takes, and whether it fits this machine");
  verb.add_flag("--force", options->force, "Do stages that are done again");
  verb.add_flag("--schema", options->schema, "Print the JSON Schema of recipes");
  verb.add_flag("--json", common.json, "Print one JSON object")->group(kCommonGroup);
  std::vector<CLI::Option*> shared = {
      verb.add_option("--device", common.device, "Where stages compute that do not say it")
          ->check(CLI::IsMember({"cpu", "cuda"})),
      verb.add_option("--threads", common.threads, "CPU threads of stages that do not say it")
          ->check(CLI::Range(0, 4096)),
      verb.add_option("--seed", common.seed, "Seed of stages that do not say it")};
  for (CLI::Option* option : shared) option->group(kCommonGroup);
  verb.add_flag("-q,--quiet", common.quiet, "No progress and no notes")->group(kCommonGroup);
  verb.add_flag("-v,--verbose", common.verbose, "Also print what stages run on")
      ->group(kCommonGroup);
  return [options, shared, &verb] {
    for (const CLI::Option* option : shared) {
      if (option->count() > 0) {
        options->shared.emplace_back(option->get_lnames().front(), option->results().front());
      }
    }
    run(*options, command_form(*verb.get_parent()));
  };
}

}  // namespace schmidt::cli
