#include "schmidt/cli/stage_command.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <optional>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/output_place.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/pipeline/run_record.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;

constexpr StageVerb kStageVerbs[] = {
    {"sample", add_sample},
    {.name = "profile", .add = add_profile, .draws = true, .is_shared = true},
    {.name = "plan", .add = add_plan, .draws = true},
    {.name = "compress", .add = add_compress, .is_shared = true},
    {.name = "quantize", .add = add_quantize, .is_shared = true},
    {.name = "heal", .add = add_heal, .goes_on = true, .is_shared = true},
    {"export", add_export},
    {.name = "eval", .add = add_eval, .is_printed = true, .is_shared = true},
    {.name = "bench", .add = add_bench, .is_printed = true},
    {.name = "generate", .add = add_generate, .is_printed = true},
    {.name = "report", .add = add_report, .reads_run = true},
};

constexpr std::string_view kGivenByRun[] = {"results", "out",   "output",  "force", "resume",
                                            "json",    "quiet", "verbose", "help"};

/// What decides rounding at most, and no result.
constexpr std::string_view kOfTheMachine[] = {"threads", "device"};

/// Statistics are measured anew where a folder lacks them; a plan is made by those that are there.
bool decides(const pipeline::Stage& stage, const std::string& option) {
  if (option == "statistics") return stage.verb == "plan";
  return std::ranges::find(kOfTheMachine, option) == std::end(kOfTheMachine);
}

/// Where an earlier result can stand.
bool is_read(ValueKind kind) {
  return kind == ValueKind::kFile || kind == ValueKind::kPath || kind == ValueKind::kModel;
}

std::vector<OptionForm> forms_of(const CommandForm& program, const std::string& verb) {
  const auto found = std::ranges::find(program.verbs, verb, &VerbForm::name);
  std::vector<OptionForm> forms = found->arguments;
  forms.insert(forms.end(), found->options.begin(), found->options.end());
  return forms;
}

std::vector<std::string> items_of(const OptionForm& form, const pipeline::StageOption& option) {
  if (!form.is_list) return option.values;
  std::vector<std::string> items;
  for (const std::string& value : option.values) {
    for (size_t at = 0; at <= value.size();) {
      const size_t end = std::min(value.find(',', at), value.size());
      items.push_back(value.substr(at, end - at));
      at = end + 1;
    }
  }
  return items;
}

class CommandMaker {
 public:
  CommandMaker(const pipeline::RunRecipe& recipe, const CommandForm& program, const fs::path& out,
               const SharedOptions& shared)
      : recipe_(recipe), program_(program), out_(out), shared_(shared) {}

  std::vector<StageCommand> make() {
    for (const pipeline::Stage& stage : recipe_.stages) {
      StageCommand command = command_of(stage);
      for (const StageCommand& earlier : made_) check_apart(command, earlier);
      made_.push_back(std::move(command));
    }
    return std::move(made_);
  }

 private:
  [[noreturn]] void fail(const pipeline::RecipePlace& place, const std::string& reason) const {
    pipeline::fail_in_recipe(recipe_.path, place, reason);
  }

  /// Throws where one stage would write what is another's.
  void check_apart(const StageCommand& stage, const StageCommand& earlier) const {
    const auto takes = [](const StageCommand& one, const fs::path& path) {
      const auto has = [&](const std::vector<fs::path>& paths) {
        return std::ranges::find(paths, path) != paths.end();
      };
      return path == one.result || has(one.work_places()) || has(one.figures());
    };
    if (!takes(earlier, stage.result) && !takes(stage, earlier.result)) return;
    const fs::path& both = takes(earlier, stage.result) ? stage.result : earlier.result;
    fail(stage.place, fmt::format("stage \"{}\": what it writes at {} is an earlier stage's too",
                                  stage.name, both.string()));
  }

  StageCommand command_of(const pipeline::Stage& stage) {
    StageCommand command{.name = stage.name, .place = stage.place};
    std::vector<std::string_view> verbs;
    for (const StageVerb& verb : kStageVerbs) {
      verbs.emplace_back(verb.name);
      if (stage.verb == verb.name) command.verb = &verb;
    }
    if (command.verb == nullptr) {
      fail(stage.place, fmt::format("stage \"{}\": there is no verb \"{}\" for a stage; expected "
                                    "one of {}",
                                    stage.name, stage.verb, fmt::join(verbs, ", ")));
    }
    command.result = out_ / pipeline::result_name(stage.name, stage.verb);
    const std::vector<OptionForm> forms = forms_of(program_, stage.verb);
    std::vector<std::string> positional, options;
    for (const pipeline::StageOption& option : stage.options) {
      const OptionForm& form = form_of(stage, option, forms);
      const std::vector<std::string> values = values_of(stage, option, form, command);
      if (!form.takes_value()) {
        if (values[0] == "true") options.push_back("--" + option.name);
      } else if (form.names.back().starts_with('-')) {
        for (const std::string& value : values) {
          options.push_back(fmt::format("--{}={}", option.name, value));
        }
      } else {
        positional.insert(positional.end(), values.begin(), values.end());
      }
    }
    add_shared(stage, forms, command, options);
    if (command.verb->reads_run) add_run(stage, positional, command);
    command.arguments = std::move(positional);  // first: options of several values would take them
    std::ranges::move(options, std::back_inserter(command.arguments));
    add_result(stage, command);
    parse(stage, command);
    command.launcher = stage.launcher;
    check_launcher(command);
    return command;
  }

  /// Throws where several processes would do the same, each for itself.
  void check_launcher(const StageCommand& command) const {
    const bool reads_texts = !command.given("--text").empty();
    if (command.launcher.empty() ||
        (command.verb->is_shared && (command.verb->add != add_eval || !reads_texts))) {
      return;
    }
    fail(command.place,
         fmt::format("stage \"{}\": {}{} is the work of one process; expected no "
                     "launcher, got \"{}\"",
                     command.name, command.verb->name, reads_texts ? " of texts" : "",
                     fmt::join(command.launcher, " ")));
  }

  const OptionForm& form_of(const pipeline::Stage& stage, const pipeline::StageOption& option,
                            const std::vector<OptionForm>& forms) const {
    std::vector<std::string> known;
    for (const OptionForm& form : forms) {
      const bool given = is_given_by_run(form);
      if (recipe_name(form) == option.name) {
        if (given) {
          fail(option.place, fmt::format("stage \"{}\": \"{}\" is for run to say, which writes {}",
                                         stage.name, option.name, (out_ / stage.name).string()));
        }
        return form;
      }
      if (!given) known.push_back(recipe_name(form));
    }
    fail(option.place, fmt::format("stage \"{}\": {} has no option \"{}\"; expected one of {}",
                                   stage.name, stage.verb, option.name, fmt::join(known, ", ")));
  }

  std::vector<std::string> values_of(const pipeline::Stage& stage,
                                     const pipeline::StageOption& option, const OptionForm& form,
                                     StageCommand& command) const {
    const auto reject = [&](const std::string& expected) {
      fail(option.place, fmt::format("stage \"{}\", {}: expected {}, got {}", stage.name,
                                     option.name, expected, fmt::join(option.values, ", ")));
    };
    const std::string& first = option.values[0];
    if (!form.takes_value() && (option.is_list || (first != "true" && first != "false"))) {
      reject("true or false");
    }
    if (!form.is_list && !form.repeats && option.values.size() > 1) reject("one value");
    if (form.kind == ValueKind::kFolder && option.name != "statistics") {
      for (const std::string& value : option.values) {
        command.decides.push_back(option.name + "=" + value);
        TORCH_CHECK_VALUE(is_folder(value), recipe_.path.string(), ": ",
                          pipeline::place_text(option.place), ": stage \"", stage.name, "\", ",
                          option.name, ": expected a folder that is there, got ", value);
        command.inputs.push_back({option.name, form.kind, value});
      }
      return option.values;
    }
    if (!is_read(form.kind)) {
      if (decides(stage, option.name)) {
        for (const std::string& value : option.values) {
          command.decides.push_back(option.name + "=" + value);
        }
      }
      return option.values;
    }
    std::vector<std::string> values;
    for (const std::string& item : items_of(form, option)) {
      values.push_back(input_of(stage, option, form, item, command));
    }
    return values;
  }

  /// The path that a stage reads under a name: that of an earlier result, or the name itself.
  std::string input_of(const pipeline::Stage& stage, const pipeline::StageOption& option,
                       const OptionForm& form, const std::string& item,
                       StageCommand& command) const {
    const auto earlier = std::ranges::find(made_, item, &StageCommand::name);
    if (earlier != made_.end()) {
      command.decides.push_back(option.name + " of stage " + item);
      command.inputs.push_back(
          {option.name, form.kind, earlier->result, static_cast<int>(earlier - made_.begin())});
      return earlier->result.string();
    }
    for (const pipeline::Stage& later : recipe_.stages) {
      if (later.name != item) continue;
      fail(option.place, fmt::format("stage \"{}\", {}: stage \"{}\" comes {}; expected an earlier "
                                     "one",
                                     stage.name, option.name, item,
                                     item == stage.name ? "not before itself" : "later"));
    }
    command.decides.push_back(option.name + "=" + item);
    if (item == "self" && form.kind == ValueKind::kFile) return item;  // text of the model's own
    std::string reason;
    fs::path path;
    try {
      path = form.kind == ValueKind::kModel ? io::locate_model(item) : fs::path(item);
      if (!path_exists(path)) {
        reason = fmt::format("expected {} or an earlier stage, got \"{}\", which does not exist",
                             form.kind == ValueKind::kModel ? "a model" : "a file", item);
      }
    } catch (const c10::ValueError& error) {
      reason = error.what_without_backtrace();
    }
    TORCH_CHECK_VALUE(reason.empty(), recipe_.path.string(), ": ",
                      pipeline::place_text(option.place), ": stage \"", stage.name, "\", ",
                      option.name, ": ", reason);
    command.inputs.push_back({option.name, form.kind, path});
    return item;
  }

  void add_shared(const pipeline::Stage& stage, const std::vector<OptionForm>& forms,
                  StageCommand& command, std::vector<std::string>& options) const {
    for (const auto& [name, value] : shared_) {
      const bool known = std::ranges::any_of(
          forms, [&](const OptionForm& form) { return recipe_name(form) == name; });
      const bool said = std::ranges::any_of(
          stage.options, [&](const pipeline::StageOption& o) { return o.name == name; });
      if (!known || said) continue;
      options.push_back(fmt::format("--{}={}", name, value));
      if (decides(stage, name)) command.decides.push_back(name + "=" + value);
    }
  }

  /// Whatever changes in an earlier result, what shows all of them has to show.
  void add_run(const pipeline::Stage& stage, std::vector<std::string>& positional,
               StageCommand& command) const {
    if (made_.empty()) {
      fail(stage.place,
           fmt::format("stage \"{}\": expected stages before it, got none", stage.name));
    }
    positional.push_back(out_.string());
    for (size_t i = 0; i < made_.size(); ++i) {
      command.decides.push_back("stage " + made_[i].name);
      command.inputs.push_back(
          {"results", ValueKind::kFolder, made_[i].result, static_cast<int>(i)});
    }
  }

  static void add_result(const pipeline::Stage& stage, StageCommand& command) {
    const bool asks = std::ranges::any_of(
        stage.options, [](const pipeline::StageOption& o) { return o.name == "tasks"; });
    command.writes_result = !command.verb->is_printed || asks;
    if (command.writes_result) command.arguments.push_back("--out=" + command.result.string());
    command.arguments.emplace_back("--json");
  }

  /// As the verb parses them, though nothing runs.
  void parse(const pipeline::Stage& stage, StageCommand& command) const {
    struct Parser {
      CLI::App app;
      std::optional<Action> action;  // holds the values of the options
    };
    auto parser = std::make_shared<Parser>();
    parser->action = command.verb->add(parser->app);
    check_whole_numbers(parser->app);
    std::vector<std::string> reversed(command.arguments.rbegin(), command.arguments.rend());
    try {
      parser->app.parse(reversed);
      parser->action->check();
    } catch (const CLI::ParseError& error) {
      const std::string message = error.what();
      pipeline::RecipePlace place = stage.place;
      for (const pipeline::StageOption& option : stage.options) {
        if (message.starts_with("--" + option.name + ":")) place = option.place;
      }
      fail(place, fmt::format("stage \"{}\", {}: {}", stage.name, stage.verb, message));
    } catch (const c10::ValueError& error) {
      fail(stage.place,
           fmt::format("stage \"{}\": {}", stage.name, error.what_without_backtrace()));
    }
    command.parsed = std::shared_ptr<const CLI::App>(parser, &parser->app);
    if (stage.verb == "generate" && command.given("--prompt").empty() &&
        command.given("--prompt-file").empty()) {
      fail(stage.place, fmt::format("stage \"{}\": expected prompt or prompt-file: a stage has no "
                                    "standard input",
                                    stage.name));
    }
  }

  const pipeline::RunRecipe& recipe_;
  const CommandForm& program_;
  const fs::path& out_;
  const SharedOptions& shared_;
  std::vector<StageCommand> made_;
};

}  // namespace

std::span<const StageVerb> stage_verbs() { return kStageVerbs; }

std::string recipe_name(const OptionForm& option) {
  std::string name = option.names.back();
  name.erase(0, name.find_first_not_of('-'));
  if (option.names.back().starts_with('-')) return name;
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name;
}

bool is_given_by_run(const OptionForm& option) {
  return std::ranges::find(kGivenByRun, recipe_name(option)) != std::end(kGivenByRun);
}

std::vector<fs::path> StageCommand::work_places() const {
  std::vector<fs::path> paths;
  for (const char* ending : {".partial", ".statistics", ".pruned", ".pruned.partial",
                             ".pruned.statistics", ".plan.json", ".plan.svg"}) {
    paths.push_back(with_ending(result, ending));
  }
  return paths;
}

std::vector<fs::path> StageCommand::figures() const {
  if (!verb->draws) return {};
  return {fs::path(result).replace_extension(".svg"), fs::path(result).replace_extension(".html")};
}

std::vector<std::string> StageCommand::given(const std::string& option) const {
  const CLI::Option* found = parsed->get_option_no_throw(option);
  return found == nullptr ? std::vector<std::string>() : found->results();
}

std::vector<StageCommand> stage_commands(const pipeline::RunRecipe& recipe,
                                         const CommandForm& program, const fs::path& out,
                                         const SharedOptions& shared) {
  return CommandMaker(recipe, program, out, shared).make();
}

}  // namespace schmidt::cli
