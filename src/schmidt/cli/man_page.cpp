#include "schmidt/cli/man_page.h"

#include <algorithm>
#include <iterator>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/exit_code.h"
#include "schmidt/cli/options.h"

namespace schmidt::cli {
namespace {

struct Entry {
  std::string_view name, text;
};

constexpr Entry kEnvironment[] = {
    {"HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME",
     "Where Hugging Face's cache is, in which a model is found by its id."},
    {"SCHMIDT_API_KEY", "The key that serve asks for, as --api-key."},
    {"SCHMIDT_INSTRUCTION_SET",
     "portable, avx2, avx512, avx512-vnni, avx512-vbmi or avx512-bf16: computes as on a processor "
     "that has nothing newer."},
    {"OMP_NUM_THREADS", "Threads of the CPU, where --threads does not say."},
    {"OMP_WAIT_POLICY, GOMP_SPINCOUNT",
     "How long threads wait for the next product before they sleep."},
};

constexpr Entry kFiles[] = {
    {"~/.cache/huggingface/hub", "Hugging Face's cache, unless the environment names another."},
    {"OUT.partial, OUT.statistics",
     "Unfinished work of a run that was stopped: the same command goes on from it."},
};

constexpr std::string_view kExamples[] = {
    "schmidt doctor",
    "schmidt inspect HuggingFaceTB/SmolLM2-135M-Instruct",
    "schmidt compress MODEL --size 80MB --calibration wiki.txt,chat.jsonl -o SMALL",
    "schmidt quantize MODEL --bits 4 --calibration wiki.txt -o INT4",
    "schmidt eval SMALL --reference MODEL --text test.txt",
    "schmidt chat SMALL",
    "schmidt man | man -l -",
};

/// Text as roff takes it literally; a hyphen is one that can be copied.
std::string roff(std::string_view text) {
  std::string out;
  if (text.starts_with('.') || text.starts_with('\'')) out += "\\&";
  for (const char c : text) {
    switch (c) {
      case '\\':
        out += "\\e";
        break;
      case '-':
        out += "\\-";
        break;
      case '\'':
        out += "\\(aq";
        break;
      case '^':
        out += "\\(ha";
        break;
      case '~':
        out += "\\(ti";
        break;
      case '`':
        out += "\\(ga";
        break;
      case '\n':
        out += ' ';
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string bold(std::string_view text) { return fmt::format("\\fB{}\\fR", roff(text)); }
std::string italic(std::string_view text) { return fmt::format("\\fI{}\\fR", roff(text)); }

std::string sentence(std::string text) {
  if (!text.empty() && std::string_view(".!?").find(text.back()) == std::string_view::npos)
    text += '.';
  return text;
}

/// " Above 0.", " From 0 to 4096."
std::string limits_text(const OptionForm& option) {
  if (option.limits == kPositive.get_description()) return " Above 0.";
  if (option.limits == kNonNegative.get_description()) return " 0 or more.";
  const auto range = range_of(option);
  return range ? fmt::format(" From {} to {}.", range->first, range->second) : "";
}

std::string option_entry(const OptionForm& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.names) names.push_back(bold(name));
  std::string head = fmt::format("{}", fmt::join(names, ", "));
  if (option.takes_value()) {
    head += " " + italic(option.value_name) + (option.is_list ? "[," + italic("..") + "]" : "");
  }
  std::string text = sentence(option.help);
  if (!option.choices.empty()) text += fmt::format(" One of {}.", fmt::join(option.choices, ", "));
  text += limits_text(option);
  if (!option.default_value.empty()) text += fmt::format(" Default: {}.", option.default_value);
  if (!option.environment.empty()) text += fmt::format(" Environment: {}.", option.environment);
  if (option.is_required) text += " Required.";
  return fmt::format(".TP\n{}\n{}\n", head, roff(text));
}

std::string argument_text(const OptionForm& argument) {
  const std::string name = italic(argument.names.front()) + (argument.repeats ? " ..." : "");
  return argument.is_required ? name : "[" + name + "]";
}

bool is_common(const OptionForm& option) { return option.group == kCommonGroup; }

std::string verb_section(const CommandForm& command, const VerbForm& verb) {
  std::string text = fmt::format(".SS \"{} {}\"\n{}\n.PP\n{}", command.name, verb.name,
                                 roff(sentence(verb.help)), bold(command.name + " " + verb.name));
  for (const OptionForm& argument : verb.arguments) text += " " + argument_text(argument);
  text += verb.options.size() > 1 ? " [options]\n" : "\n";  // one is --help
  for (const OptionForm& argument : verb.arguments) text += option_entry(argument);
  std::vector<std::string> groups;
  for (const OptionForm& option : verb.options) {
    const bool seen = std::ranges::find(groups, option.group) != groups.end();
    if (!is_common(option) && !seen) groups.push_back(option.group);
  }
  for (const std::string& group : groups) {
    if (groups.size() > 1) text += fmt::format(".PP\n{}\n", bold(group));
    for (const OptionForm& option : verb.options) {
      const bool is_help = option.names.back() == "--help";
      if (option.group == group && !is_help) text += option_entry(option);
    }
  }
  return text;
}

std::string entries(const auto& list) {
  std::string text;
  for (const auto& [name, about] : list) {
    text += fmt::format(".TP\n{}\n{}\n", bold(fmt::format("{}", name)), roff(about));
  }
  return text;
}

}  // namespace

std::string man_page(const CommandForm& command, const std::string& version) {
  std::string text = fmt::format(
      ".TH SCHMIDT 1 \"\" \"schmidt {}\" \"User commands\"\n"
      ".nh\n.ad l\n"
      ".SH NAME\nschmidt \\- compress large language models with tensor networks\n"
      ".SH SYNOPSIS\n\\fBschmidt\\fR \\fIVERB\\fR [options]\n.br\n"
      "\\fBschmidt\\fR \\fIVERB\\fR \\fB\\-\\-help\\fR\n"
      ".SH DESCRIPTION\n"
      "schmidt reads a language model of the Llama family, factorizes its weights or rounds them "
      "to integers of few bits, and writes a smaller one. It measures what every cut costs, and "
      "retrains what was cut.\n"
      ".PP\n"
      "A model is a Hugging Face folder, a GGUF file, or the id of a model on Hugging Face\\(aqs "
      "hub, {} or {}, which is found in the local cache. A path that exists is meant first. "
      "Nothing is downloaded; an id that is not in the cache is answered with the command that "
      "downloads it.\n"
      ".PP\nResults go to standard output, progress and errors to standard error.\n"
      ".SH VERBS\n",
      version, italic("ORG/NAME"), italic("ORG/NAME@REVISION"));
  std::string common;
  for (const VerbForm& verb : command.verbs) {
    text += verb_section(command, verb);
    if (!common.empty()) continue;
    for (const OptionForm& option : verb.options) {
      if (is_common(option)) common += option_entry(option);
    }
  }
  text += ".SH COMMON OPTIONS\nOptions of every verb that reads a model.\n" + common;
  text += ".SH EXIT STATUS\n";
  for (const ExitCodeMeaning& code : kExitCodes) {
    text += fmt::format(".TP\n{}\n{}\n", bold(std::to_string(code.code)), roff(code.meaning));
  }
  text += ".SH ENVIRONMENT\n" + entries(kEnvironment);
  text += ".SH FILES\n" + entries(kFiles);
  text += ".SH EXAMPLES\n.nf\n";
  for (const std::string_view example : kExamples) text += roff(example) + "\n";
  return text + ".fi\n";
}

}  // namespace schmidt::cli
