#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "schmidt/cli/command_line.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/pipeline/run_recipe.h"

/// The stages of a recipe as commands of this program: what a stage says under its verb are the
/// verb's own options, parsed by the verb's own parser.
namespace schmidt::cli {

/// A verb that a stage may have.
struct StageVerb {
  const char* name;
  Action (*add)(CLI::App&);
  bool goes_on = false;     ///< --resume goes on with unfinished work
  bool is_printed = false;  ///< its result is what it prints, unless it has --out of its own
  bool reads_run = false;   ///< its first argument is the run's folder: it reads all before it
  bool draws = false;       ///< figures lie beside its result
  bool is_shared = false;   ///< ranks of mpirun share its work; of eval that of --tasks
};

std::span<const StageVerb> stage_verbs();

/// An option as recipes name it: "calibration-tokens", "model" of the argument MODEL.
std::string recipe_name(const OptionForm& option);

/// Whether `run` gives an option itself: where results lie, how much is said.
bool is_given_by_run(const OptionForm& option);

/// Something that a stage reads.
struct StageInput {
  std::string option;  ///< as recipes name it
  ValueKind kind = ValueKind::kFile;
  std::filesystem::path path;
  int stage = -1;  ///< the earlier one whose result it is; -1 where it is none
};

struct StageCommand {
  std::string name;
  pipeline::RecipePlace place;
  const StageVerb* verb = nullptr;
  std::filesystem::path result;        ///< file or folder
  bool writes_result = true;           ///< the verb does, by --out; otherwise it prints it
  std::vector<std::string> launcher;   ///< what starts it, as in pipeline::Stage
  std::vector<std::string> arguments;  ///< after the verb, without those of --force and --resume
  std::vector<StageInput> inputs;
  std::vector<std::string> decides;        ///< all that decides the result; a stage by its name
  std::shared_ptr<const CLI::App> parsed;  ///< the verb's options with their values

  /// Where its verb keeps what is unfinished.
  std::vector<std::filesystem::path> work_places() const;

  /// What its verb draws beside the result.
  std::vector<std::filesystem::path> figures() const;

  /// What was given for an option, "--keep"; none where nothing was.
  std::vector<std::string> given(const std::string& option) const;
};

/// Options for every verb that has them, unless a stage says otherwise: {"threads", "4"}.
using SharedOptions = std::vector<std::pair<std::string, std::string>>;

/// Throws FormatError, naming line and column, for a stage that no verb would accept;
/// c10::ValueError for a file or a model that is not there.
std::vector<StageCommand> stage_commands(const pipeline::RunRecipe& recipe,
                                         const CommandForm& program,
                                         const std::filesystem::path& out,
                                         const SharedOptions& shared);

}  // namespace schmidt::cli
