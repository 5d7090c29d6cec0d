#include "schmidt/pipeline/run_recipe.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"

namespace schmidt::pipeline {
namespace {

constexpr uint64_t kMaxRecipeBytes = 1'000'000;
constexpr size_t kMaxNameBytes = 100;
constexpr const char* kOutVariable = "out";

/// A variable's value; without one it has to come from outside.
struct VariableValue {
  std::vector<std::string> values;
  bool is_list = false;
  bool is_missing = false;
};

struct ScalarOrList {
  std::vector<std::string> values;
  bool is_list = false;
};

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaxNameBytes && text[0] != '.' && text[0] != '-' &&
         std::ranges::all_of(text, [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
         });
}

std::vector<std::string> split_at_commas(std::string_view text) {
  std::vector<std::string> parts;
  if (text.empty()) return parts;
  while (true) {
    const size_t end = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

class RecipeReader {
 public:
  RecipeReader(std::filesystem::path path, const std::filesystem::path& out,
               const RecipeVariables& set)
      : path_(std::move(path)), set_(set) {
    variables_[kOutVariable] = {{out.string()}};
  }

  RunRecipe read() {
    const YAML::Node root = parse();
    if (!root.IsMap()) fail(root, "expected a map with \"stages\"");
    YAML::Node variables, stages;
    for (const auto& [key, value, place] : members(root)) {
      if (key == "variables") {
        variables.reset(value);
      } else if (key == "stages") {
        stages.reset(value);
      } else {
        fail(value, fmt::format("expected \"variables\" or \"stages\", got \"{}\"", key));
      }
    }
    if (!variables.IsNull()) read_variables(variables);
    check_set();
    if (!stages.IsSequence() || stages.size() == 0) {
      fail(stages.IsNull() ? root : stages, "expected a list of stages under \"stages\"");
    }
    RunRecipe recipe{path_, {}};
    std::set<std::string> names;
    for (const YAML::Node& node : stages) {
      const auto [stage, is_wanted] = read_stage(node);
      if (!names.insert(stage.name).second) {
        fail_in_recipe(
            path_, stage.place,
            fmt::format("expected stages of different names, got \"{}\" twice", stage.name));
      }
      if (is_wanted) recipe.stages.push_back(stage);
    }
    if (recipe.stages.empty()) fail(stages, "expected a stage, and the \"if\" of all says no");
    return recipe;
  }

 private:
  struct Member {
    std::string name;
    YAML::Node value;
    RecipePlace place;  // of the name: nothing as a value has none of its own
  };

  static RecipePlace place_of(const YAML::Mark& mark) {
    return mark.is_null() ? RecipePlace{} : RecipePlace{mark.line + 1, mark.column + 1};
  }

  [[noreturn]] void fail(const YAML::Node& node, std::string_view reason) const {
    fail_in_recipe(path_, place_of(node.Mark()), reason);
  }

  YAML::Node parse() const {
    if (is_folder(path_)) throw SystemError("cannot read", path_, EISDIR);
    errno = 0;
    std::ifstream in(path_, std::ios::binary);
    if (!in) throw SystemError("cannot read", path_, errno != 0 ? errno : ENOENT);
    std::string text(kMaxRecipeBytes + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxRecipeBytes) {
      throw FormatError(path_, "", fmt::format("expected at most {} bytes", kMaxRecipeBytes));
    }
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(text);
      if (documents.size() != 1) {
        throw FormatError(path_, "",
                          fmt::format("expected one YAML document, got {}", documents.size()));
      }
      return documents[0];
    } catch (const YAML::Exception& error) {
      fail_in_recipe(path_, place_of(error.mark), "expected YAML: " + error.msg);
    }
  }

  /// A map's entries in the file's order. YAML does not let a key stand twice.
  std::vector<Member> members(const YAML::Node& map) const {
    std::vector<Member> members;
    for (const auto& entry : map) {
      if (!entry.first.IsScalar()) fail(entry.first, "expected a name as a key");
      const std::string& key = entry.first.Scalar();
      const bool again =
          std::ranges::any_of(members, [&](const Member& other) { return other.name == key; });
      if (again) fail(entry.first, fmt::format("\"{}\" stands here twice", key));
      members.push_back({key, entry.second, place_of(entry.first.Mark())});
    }
    return members;
  }

  void read_variables(const YAML::Node& node) {
    if (!node.IsMap()) fail(node, "expected a map of variables: name: value");
    for (const auto& [name, value, place] : members(node)) {
      if (!is_name(name) || name == kOutVariable) {
        fail(value, fmt::format("expected another name of a variable than \"{}\"", name));
      }
      VariableValue variable;
      if (value.IsNull()) {
        variable.is_missing = true;
      } else if (value.IsSequence() && value.size() == 0) {
        variable.is_list = true;
      } else {
        const ScalarOrList read = value_of(value);
        variable.values = read.values;
        variable.is_list = read.is_list;
      }
      if (const auto given = set_.find(name); given != set_.end()) {
        variable.is_missing = false;
        variable.values = variable.is_list ? split_at_commas(given->second)
                                           : std::vector<std::string>{given->second};
      }
      variables_[name] = std::move(variable);
    }
  }

  void check_set() const {
    for (const auto& [name, value] : set_) {
      TORCH_CHECK_VALUE(name != kOutVariable && variables_.contains(name), "[run] --set ", name,
                        ": expected a variable of ", path_.string(), ", one of ", names());
    }
  }

  std::string names() const {
    std::vector<std::string> names;
    for (const auto& [name, variable] : variables_) {
      if (name != kOutVariable) names.push_back(name);
    }
    return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
  }

  const VariableValue& variable(const std::string& name, const YAML::Node& node) const {
    const auto found = variables_.find(name);
    if (found == variables_.end()) {
      fail(node, fmt::format("there is no variable \"{}\" before it; expected one of {} or {}",
                             name, names(), kOutVariable));
    }
    if (found->second.is_missing) {
      fail(node,
           fmt::format("the variable \"{0}\" has no value; give it by --set {0}=VALUE", name));
    }
    return found->second;
  }

  /// A text that is nothing but one variable which is a list.
  const VariableValue* whole_list(const std::string& text, const YAML::Node& node) const {
    if (!text.starts_with("${") || text.find('}') != text.size() - 1) return nullptr;
    const VariableValue& found = variable(text.substr(2, text.size() - 3), node);
    return found.is_list ? &found : nullptr;
  }

  std::string replaced(const std::string& text, const YAML::Node& node) const {
    std::string out;
    size_t at = 0;
    while (true) {
      const size_t begin = text.find("${", at);
      if (begin == text.npos) return out + text.substr(at);
      if (begin > at && text[begin - 1] == '$') {  // "$${" stands for itself
        out += text.substr(at, begin - 1 - at) + "${";
        at = begin + 2;
        continue;
      }
      const size_t end = text.find('}', begin);
      if (end == text.npos) fail(node, fmt::format("\"${{\" without \"}}\" in \"{}\"", text));
      const std::string name = text.substr(begin + 2, end - begin - 2);
      const VariableValue& found = variable(name, node);
      if (found.is_list) {
        fail(node, fmt::format("the variable \"{}\" is a list, which stands alone or is an item of "
                               "a list",
                               name));
      }
      out += text.substr(at, begin - at) + found.values[0];
      at = end + 1;
    }
  }

  std::string scalar(const YAML::Node& node) const {
    if (!node.IsScalar()) {
      fail(node, node.IsNull() ? "expected a value, got nothing" : "expected a single value");
    }
    if (node.Scalar().find('\0') != std::string::npos) fail(node, "expected no NUL in a value");
    return replaced(node.Scalar(), node);
  }

  /// Appends a value, or all those of a variable that is a list.
  bool append(const YAML::Node& node, std::vector<std::string>& values) const {
    if (node.IsScalar()) {
      if (const VariableValue* list = whole_list(node.Scalar(), node)) {
        values.insert(values.end(), list->values.begin(), list->values.end());
        return true;
      }
    }
    values.push_back(scalar(node));
    if (values.back().empty()) fail(node, "expected a value, got an empty one");
    return false;
  }

  ScalarOrList value_of(const YAML::Node& node) const {
    ScalarOrList read;
    if (!node.IsSequence()) {
      read.is_list = append(node, read.values);
      return read;
    }
    read.is_list = true;
    for (const YAML::Node& item : node) append(item, read.values);
    return read;
  }

  struct ReadStage {
    Stage stage;
    bool is_wanted = true;  // by its "if"
  };

  /// Whether the value of an "if" is a list of something, or says so.
  bool is_yes(const YAML::Node& node) const {
    const ScalarOrList read = value_of(node);
    if (read.is_list) return !read.values.empty();
    if (read.values[0] != "true" && read.values[0] != "false") {
      fail(node, fmt::format("expected true, false or a list, got \"{}\"", read.values[0]));
    }
    return read.values[0] == "true";
  }

  /// Of a value, or of each of a list, what stands between its spaces.
  std::vector<std::string> words_of(const YAML::Node& node) const {
    std::vector<std::string> words;
    for (const std::string& text : value_of(node).values) {
      std::istringstream in(text);
      for (std::string word; in >> word;) words.push_back(word);
    }
    return words;
  }

  ReadStage read_stage(const YAML::Node& node) const {
    if (!node.IsMap()) fail(node, "expected a stage: a map of a name and a verb");
    ReadStage result;
    Stage& stage = result.stage;
    stage.place = place_of(node.Mark());
    YAML::Node options;
    for (const auto& [key, value, place] : members(node)) {
      if (key == "name") {
        stage.name = scalar(value);
        if (!is_name(stage.name)) {
          fail(value, fmt::format("expected a name of letters, digits, \".\", \"_\" and \"-\", at "
                                  "most {} of them, got \"{}\"",
                                  kMaxNameBytes, stage.name));
        }
        if (stage.name == "run" || stage.name == "run.json") {
          fail(value, fmt::format("expected another name of a stage than \"{}\": run.json is the "
                                  "run's own file",
                                  stage.name));
        }
      } else if (key == "if") {
        result.is_wanted = is_yes(value);
      } else if (key == "launcher") {
        stage.launcher = words_of(value);
      } else if (stage.verb.empty()) {
        stage.verb = key;
        options.reset(value);
      } else {
        fail(value,
             fmt::format("expected one verb in a stage, got \"{}\" and \"{}\"", stage.verb, key));
      }
    }
    if (stage.name.empty()) fail(node, "expected a \"name\" of the stage");
    if (stage.verb.empty()) fail(node, fmt::format("stage \"{}\": expected a verb", stage.name));
    if (options.IsNull() || !result.is_wanted) return result;
    if (!options.IsMap()) fail(options, "expected a map of options");
    for (const auto& [key, value, place] : members(options)) {
      if (value.IsNull()) {
        fail_in_recipe(path_, place, fmt::format("expected a value of \"{}\", got nothing", key));
      }
      ScalarOrList read = value_of(value);
      if (read.values.empty()) fail(value, "expected values, got an empty list");
      stage.options.push_back({key, std::move(read.values), read.is_list, place_of(value.Mark())});
    }
    return result;
  }

  std::filesystem::path path_;
  const RecipeVariables& set_;
  std::map<std::string, VariableValue> variables_;
};

}  // namespace

RunRecipe read_run_recipe(const std::filesystem::path& path, const std::filesystem::path& out,
                          const RecipeVariables& set) {
  return RecipeReader(path, out, set).read();
}

std::string place_text(const RecipePlace& place) {
  return fmt::format("line {}, column {}", place.line, place.column);
}

void fail_in_recipe(const std::filesystem::path& path, const RecipePlace& place,
                    std::string_view reason) {
  throw FormatError(path, place_text(place), reason);
}

}  // namespace schmidt::pipeline
