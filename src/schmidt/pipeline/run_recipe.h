#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::pipeline {

/// Where something stands in a recipe's file; both count from 1.
struct RecipePlace {
  int line = 1;
  int column = 1;
};

/// What a recipe says under one option of a stage, its variables replaced.
struct StageOption {
  std::string name;
  std::vector<std::string> values;
  bool is_list = false;  ///< written as one, be it of a single value
  RecipePlace place;
};

/// One piece of a run: a verb with its options, which whoever runs it knows and checks.
struct Stage {
  std::string name;  ///< of its result in the run's folder, too: letters, digits, ".", "_", "-"
  std::string verb;
  std::vector<StageOption> options;  ///< in the file's order, each once
  /// The command that starts it, {"mpirun", "-n", "4"}; none where it is started directly.
  std::vector<std::string> launcher;
  RecipePlace place;
};

/// A chain of stages:
///
///   variables:
///     model: HuggingFaceTB/SmolLM2-135M-Instruct
///     text: [wiki.txt, chat.jsonl]
///   stages:
///     - name: small
///       compress: {model: "${model}", size: 80MB, calibration: "${text}"}
///     - name: score
///       if: "${text}"
///       eval: {model: small, reference: "${model}", text: test.txt}
///
/// A stage whose "if" is false or an empty list is as if it were not there. One may have a
/// "launcher": mpirun -n 4, or a list of such words; an empty list starts it as it is.
/// `${name}` stands for a variable's value, in any value below it in the file; `$${` for "${".
/// A variable that is a list stands alone: it becomes the list. `${out}` is the run's folder.
struct RunRecipe {
  std::filesystem::path path;
  std::vector<Stage> stages;  ///< at least one, of different names
};

/// Values from outside by their variables: "a.txt", and "a.txt,b.txt" where the recipe has a list.
using RecipeVariables = std::map<std::string, std::string>;

/// Throws FormatError, naming line and column, for what is no such recipe; c10::ValueError for a
/// value from outside whose variable the recipe does not have; SystemError.
RunRecipe read_run_recipe(const std::filesystem::path& path, const std::filesystem::path& out,
                          const RecipeVariables& set);

/// "line 3, column 5".
std::string place_text(const RecipePlace& place);

/// Throws FormatError of that place.
[[noreturn]] void fail_in_recipe(const std::filesystem::path& path, const RecipePlace& place,
                                 std::string_view reason);

}  // namespace schmidt::pipeline
