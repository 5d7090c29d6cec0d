#include <algorithm>
#include <map>
#include <regex>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "tests/cli/program.h"

// What shells complete and the manual page lists is what the program parses: its own --help.

namespace schmidt::test {
namespace {

namespace fs = std::filesystem;
using Words = std::vector<std::string>;

class Completion : public ::testing::Test {
 protected:
  Ran shell(const std::string& command) { return run_in_shell(tmp, command); }

  /// What the program prints, asked once: each start of it takes a third of a second.
  std::string printed(const std::string& arguments) {
    static std::map<std::string, std::string> known;
    const auto found = known.find(arguments);
    if (found != known.end()) return found->second;
    const Ran ran = shell("$S " + arguments);
    EXPECT_EQ(ran.code, 0) << arguments << "\n" << ran.err;
    return known[arguments] = ran.out;
  }

  static Words lines_of(const std::string& text) { return Ran{0, text, ""}.lines(); }

  /// Skips where a program is not installed: another shell than bash need not be here.
  bool has(const std::string& program) { return shell("command -v " + program).code == 0; }

  /// What bash offers where the last of `words` stands, in a folder of its own.
  Words offered(const Words& words) {
    std::string list;
    for (const std::string& word : words) list += fmt::format(" '{}'", word);
    write_file(tmp / "script.bash", printed("completion bash"));
    const Ran ran =
        shell(fmt::format("cd {} && source ../script.bash || exit 9\n"
                          "complete -p schmidt >/dev/null || exit 8\n"
                          "HF_HUB_CACHE={} COMP_WORDS=({}) COMP_CWORD={}\n"
                          "_schmidt\n"
                          "printf '%s\\n' \"${{COMPREPLY[@]}}\"",
                          (tmp / "here").string(), (tmp / "hub").string(), list, words.size() - 1));
    EXPECT_EQ(ran.code, 0) << ran.err;
    // compopt knows no completion that runs outside of readline.
    Words lines = ran.lines();
    std::erase(lines, "");
    return lines;
  }

  /// The verbs that --help lists.
  Words verbs() {
    Words names;
    bool listed = false;
    for (const std::string& line : lines_of(printed("--help"))) {
      if (listed && line.starts_with("  ")) names.push_back(line.substr(2, line.find(' ', 2) - 2));
      if (line == "Subcommands:") listed = true;
    }
    EXPECT_GT(names.size(), 10U);
    return names;
  }

  /// The long options that --help of a verb lists.
  std::set<std::string> options(const std::string& verb) {
    std::set<std::string> names;
    static const std::regex kOption("--[a-z0-9][a-z0-9-]*");
    for (const std::string& line : lines_of(printed(verb + " --help"))) {
      if (!line.starts_with("  -")) continue;
      // -o,--out FOLDER: the names end at the first space.
      const std::string head = line.substr(2, line.find(' ', 2) - 2);
      for (auto at = std::sregex_iterator(head.begin(), head.end(), kOption);
           at != std::sregex_iterator(); ++at) {
        names.insert(at->str());
      }
    }
    return names;
  }

  TemporaryFolder tmp;
};

TEST_F(Completion, BashOffersEveryVerb) {
  fs::create_directory(tmp / "here");
  EXPECT_EQ(offered({"schmidt", ""}), verbs());
  EXPECT_EQ(offered({"schmidt", "com"}), (Words{"compress", "completion"}));
  EXPECT_EQ(offered({"schmidt", "--v"}), (Words{"--version"}));
  EXPECT_EQ(offered({"schmidt", "no-such-verb", ""}), Words{});
}

TEST_F(Completion, BashOffersEveryOptionOfEveryVerb) {
  fs::create_directory(tmp / "here");
  for (const std::string& verb : verbs()) {
    const Words found = offered({"schmidt", verb, "--"});
    EXPECT_EQ(std::set(found.begin(), found.end()), options(verb)) << verb;
  }
  EXPECT_EQ(offered({"schmidt", "compress", "--for"}), (Words{"--force", "--forms"}));
}

TEST_F(Completion, BashOffersAChoicesValues) {
  fs::create_directory(tmp / "here");
  EXPECT_EQ(offered({"schmidt", "inspect", "m", "--device", ""}), (Words{"cpu", "cuda"}));
  EXPECT_EQ(offered({"schmidt", "compress", "--dtype", "b"}), (Words{"bfloat16"}));
  // --option=value is three words of bash.
  EXPECT_EQ(offered({"schmidt", "compress", "--dtype", "=", "f"}), (Words{"float32"}));
  EXPECT_EQ(offered({"schmidt", "compress", "--gauge", "="}), (Words{"fixed", "full"}));
  EXPECT_EQ(offered({"schmidt", "completion", ""}), (Words{"bash", "zsh", "fish"}));
  // Of a list what stands before the last comma stays.
  EXPECT_EQ(offered({"schmidt", "compress", "--forms", "integers,l"}),
            (Words{"integers,low-rank"}));
  EXPECT_EQ(offered({"schmidt", "eval", "m", "--tasks", "mmlu,hella"}), (Words{"mmlu,hellaswag"}));
  EXPECT_EQ(offered({"schmidt", "quantize", "m", "--bits", ""}),
            (Words{"8", "6", "5", "4", "3", "2"}));
}

TEST_F(Completion, BashOffersFilesAndFolders) {
  const fs::path here = tmp / "here";
  fs::create_directories(here / "fold er");
  write_file(here / "file a", "");
  EXPECT_EQ(offered({"schmidt", "compress", "m", "--plan", "fi"}), (Words{"file a"}));
  EXPECT_EQ(offered({"schmidt", "compress", "m", "-o", "f"}), (Words{"fold er"}));
  EXPECT_EQ(offered({"schmidt", "compress", "--calibration", "x.txt,fi"}), (Words{"x.txt,file a"}));
  EXPECT_EQ(offered({"schmidt", "compress", "--calibration", "x.txt,fo"}),
            (Words{"x.txt,fold er/"}));
  // What only the user knows has no offers.
  EXPECT_EQ(offered({"schmidt", "compress", "m", "--keep", ""}), Words{});
}

TEST_F(Completion, BashOffersModelsAtHand) {
  fs::create_directory(tmp / "here");
  fs::create_directories(tmp / "hub/models--org--small-1.0");
  fs::create_directories(tmp / "hub/datasets--org--text");
  EXPECT_EQ(offered({"schmidt", "inspect", "o"}), (Words{"org/small-1.0"}));
  EXPECT_EQ(offered({"schmidt", "heal", "--teacher", "org/"}), (Words{"org/small-1.0"}));
  // Behind the model there are options alone, but for verbs of several models.
  EXPECT_EQ(offered({"schmidt", "inspect", "--device", "cpu", "m", "o"}), Words{});
  EXPECT_EQ(offered({"schmidt", "inspect", "--device", "=", "cpu", "o"}), (Words{"org/small-1.0"}));
  EXPECT_EQ(offered({"schmidt", "bench", "m", "o"}), (Words{"org/small-1.0"}));
}

TEST_F(Completion, ZshTakesItsScript) {
  if (!has("zsh")) GTEST_SKIP() << "absent: zsh";
  const Ran ran = shell("$S completion zsh > " + (tmp / "_schmidt").string() + " && zsh -n " +
                        (tmp / "_schmidt").string());
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "");
}

TEST_F(Completion, FishCompletes) {
  if (!has("fish")) GTEST_SKIP() << "absent: fish";
  const std::string script = (tmp / "schmidt.fish").string();
  EXPECT_EQ(shell("$S completion fish > " + script + " && fish -n " + script).err, "");
  fs::create_directories(tmp / "hub/models--org--small-1.0");
  const auto first_words = [&](const std::string& typed) {
    const Ran ran =
        shell(fmt::format("HOME={} HF_HUB_CACHE={} fish -c \"source {}; complete -C '{}'\"",
                          tmp.path().string(), (tmp / "hub").string(), script, typed));
    EXPECT_EQ(ran.err, "");
    Words words;
    for (const std::string& line : ran.lines()) words.push_back(line.substr(0, line.find('\t')));
    return words;
  };
  EXPECT_EQ(first_words("schmidt comp"), (Words{"completion", "compress"}));
  EXPECT_EQ(first_words("schmidt compress --for"), (Words{"--force", "--forms"}));
  EXPECT_EQ(first_words("schmidt inspect m --device "), (Words{"cpu", "cuda"}));
  EXPECT_EQ(first_words("schmidt compress --forms sums,l"), (Words{"sums,low-rank"}));
  EXPECT_EQ(first_words("schmidt inspect org/sm"), (Words{"org/small-1.0"}));
}

TEST_F(Completion, ScriptsOfAllShellsKnowEveryOption) {
  for (const char* name : {"zsh", "fish"}) {
    const std::string script = printed(fmt::format("completion {}", name));
    for (const std::string& verb : verbs()) {
      for (const std::string& option : options(verb)) {
        const std::string spelled = std::string(name) == "fish" ? "-l " + option.substr(2) : option;
        EXPECT_NE(script.find(spelled), std::string::npos) << name << " " << verb << " " << option;
      }
    }
  }
}

TEST_F(Completion, RefusesAnotherShell) {
  const Ran ran = shell("$S completion tcsh");
  EXPECT_EQ(ran.code, 2);
  EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
  EXPECT_EQ(ran.out, "");
}

TEST_F(Completion, TheManualPageHasEveryVerbAndOption) {
  std::string page = shell("$S man").out;
  ASSERT_TRUE(page.starts_with(".TH SCHMIDT 1 ")) << page.substr(0, 100);
  page = std::regex_replace(page, std::regex(R"(\\-)"), "-");
  for (const std::string& verb : verbs()) {
    EXPECT_NE(page.find(".SS \"schmidt " + verb + "\""), std::string::npos) << verb;
    for (const std::string& option : options(verb)) {
      if (option == "--help") continue;
      EXPECT_NE(page.find("\\fB" + option + "\\fR"), std::string::npos) << verb << " " << option;
    }
  }
}

TEST_F(Completion, TheManualPageHasNoWarnings) {
  const std::string page = (tmp / "schmidt.1").string();
  ASSERT_EQ(shell("$S man > " + page).code, 0);
  if (!has("groff")) GTEST_SKIP() << "absent: groff";
  const Ran lint = shell("LC_ALL=C.UTF-8 groff -man -ww -z -Tutf8 " + page);
  EXPECT_EQ(lint.code, 0);
  EXPECT_EQ(lint.err, "");
  if (!has("man")) GTEST_SKIP() << "absent: man";
  const Ran man =
      shell("LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -l " + page + " | grep -c COMMON");
  EXPECT_EQ(man.err, "");
}

}  // namespace
}  // namespace schmidt::test
