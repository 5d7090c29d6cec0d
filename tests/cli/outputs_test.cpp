#include <algorithm>
#include <filesystem>
#include <limits>
#include <set>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "schmidt/base/file_lock.h"
#include "schmidt/base/held_folder.h"

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

std::string quoted(const std::string& name) { return "'" + name + "'"; }

/// Where verbs write, and what they leave there.
class OutputsTest : public ::testing::Test {
 protected:
  OutputsTest() {
    fs::create_directory(tmp / "models");
    test::write_model(test::make_tiny_model(), tmp / "models/m");
    test::write_byte_tokenizer(tmp / "models/m");
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("line {} of a text\n", i * i);
    test::write_file(tmp / "text", text);
  }

  int run(const std::string& arguments, const std::string& folder = "") {
    const std::string cd = folder.empty() ? "" : fmt::format("cd @{} && ", folder);
    const test::Ran ran = test::run_in_shell(tmp, fmt::format("{}$S {} -q", cd, arguments));
    said = ran.err;
    return ran.code;
  }

  void expect_refused(const std::string& arguments, const std::string& part,
                      const std::string& folder = "") {
    EXPECT_EQ(run(arguments, folder), 2) << arguments << ": " << said;
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    EXPECT_NE(said.find(part), std::string::npos) << arguments << ": " << said;
  }

  void expect_done(const std::string& arguments, const std::string& folder = "") {
    EXPECT_EQ(run(arguments, folder), 0) << arguments << ": " << said;
  }

  /// Names of all that lies in the temporary folder but for what `run` writes.
  std::set<std::string> everything() const {
    std::set<std::string> names;
    for (const auto& entry : fs::recursive_directory_iterator(tmp.path())) {
      names.insert(fs::relative(entry.path(), tmp.path()).string());
    }
    for (const char* name : {"script", "stdin", "stdout", "stderr"}) names.erase(name);
    return names;
  }

  const std::string compress = "compress @models/m --bond 3 -o ";
  const std::string heal =
      "heal @c --teacher @models/m --data @text --tokens 256 --context 32 --held-out 2 -o ";
  const std::string profile =
      "profile @models/m --text @text --max-tokens 128 --context 64 --blocks 0 --layers q_proj "
      "--keep 0.5 -o ";
  test::TemporaryFolder tmp;
  std::string said;  ///< by the last run
};

TEST_F(OutputsTest, NothingThatIsReadIsReplaced) {
  expect_done(compress + "@c");
  fs::create_directory_symlink(tmp / "models", tmp / "link");
  fs::copy(tmp / "models/m", tmp / "m.partial", fs::copy_options::recursive);
  expect_done("plan @models/m --keep 0.8 --tflops 1 -o @c/plan.json");
  fs::copy(tmp / "text", tmp / "c/text");
  const auto before = everything();
  for (const std::string force : {"", " --force"}) {
    expect_refused(compress + "@models/m" + force, "is the model");
    expect_refused(compress + "@models/m/" + force, "is the model");
    expect_refused(compress + "@link/m" + force, "is the model");
    expect_refused(compress + "@models" + force, "holds the model");
    expect_refused(compress + "@models/m/.." + force, "holds the model");
    expect_refused(compress + "." + force, "is the model", "models/m");
    expect_refused(compress + ".." + force, "holds the model", "models/m");
    expect_refused("compress @m.partial --bond 3 -o @m" + force, "is the model");
    expect_refused("compress @models/m --plan @c/plan.json -o @c" + force, "holds the plan");
    expect_refused("compress @models/m --keep 0.8 --calibration @c/text -o @c" + force,
                   "holds calibration text");
    expect_refused(
        "compress @models/m --keep 0.8 --calibration @text --statistics @models/m -o @o" + force,
        "is the model");
    expect_refused(
        "compress @models/m --keep 0.8 --calibration @text --statistics @o/s -o @o" + force,
        "apart from each other");
    expect_refused(heal + "@c" + force, "is the model");
    expect_refused(heal + "@models/m" + force, "is the teacher");
    expect_refused("heal @models/m --kl 0 --data @c/text --tokens 256 --context 32 -o @c" + force,
                   "holds data");
    expect_refused("plan @models/m/config.json --keep 0.8 -o @models/m/config.json" + force,
                   "is the model");
    expect_refused(profile + "@p.json --method fisher --statistics @models/m" + force,
                   "is the model");
    fs::rename(tmp / "text", tmp / "text.html");
    expect_refused("profile @models/m --text @text.html --keep 0.5 -o @text.json" + force,
                   "is text");
    fs::rename(tmp / "text.html", tmp / "text");
  }
  EXPECT_EQ(everything(), before);
}

TEST_F(OutputsTest, ForceReplacesWhatSchmidtWroteAlone) {
  fs::create_directories(tmp / "letters/old");
  test::write_file(tmp / "letters/old/letter", "Dear");
  fs::copy(tmp / "models/m", tmp / "copy", fs::copy_options::recursive);
  expect_refused(compress + "@letters --force", "holds old");
  expect_refused(compress + "@copy --force", "a model without compression_config");
  expect_refused(compress + "@text --force", "is no folder");
  expect_done(compress + "@c");
  expect_refused(compress + "@c", "exists");
  expect_done(compress + "@c/ --force");
  test::write_file(tmp / "c/notes.txt", "mine");
  expect_refused(compress + "@c --force", "holds notes.txt");
  EXPECT_EQ(test::read_file(tmp / "c/notes.txt"), "mine");
  fs::remove(tmp / "c/notes.txt");
  expect_done(heal + "@h");
  expect_done(heal + "@h --force");
  expect_done(compress + "@h --force");
  fs::create_directory(tmp / "c.partial");
  test::write_file(tmp / "c.partial/notes.txt", "mine");
  expect_refused(compress + "@c --force", "holds notes.txt");
  fs::create_directory(tmp / "s");
  test::write_file(tmp / "s/notes.txt", "mine");
  expect_refused("compress @models/m --keep 0.8 --calibration @text --statistics @s -o @o --force",
                 "holds notes.txt");
  expect_refused(profile + "@p.json --method fisher --statistics @s --force", "holds notes.txt");
  test::write_file(tmp / "s/statistics.json", R"({"mean": 3})");
  fs::remove(tmp / "s/notes.txt");
  expect_refused(profile + "@p.json --method fisher --statistics @s --force",
                 "is not of statistics");
  EXPECT_FALSE(fs::exists(tmp / "p.json.partial"));
  test::write_file(tmp / "p.json", "{\"mine\": 1}");
  const std::string plan = "plan @models/m --keep 0.8 --tflops 1 -o @p.json";
  expect_refused(plan, "exists");
  expect_refused(plan + " --force", "not written by schmidt");
  expect_refused(profile + "@p.json --force", "not written by schmidt");
  fs::remove(tmp / "p.json");
  test::write_file(tmp / "p.html", "<!DOCTYPE html>");
  expect_refused(profile + "@p.json --force", "p.html was not written by schmidt");
  fs::remove(tmp / "p.html");
  expect_done(plan);
  expect_done(profile + "@p.json --force");
  expect_done(profile + "@p.json --force");
  expect_refused("plan @models/m --keep 0.8 --tflops 1 -o @s --force", "is no file");
  const std::string into_model = "plan @models/m --keep 0.8 --tflops 1 -o @models/m/";
  expect_refused(into_model + "config.json --force", "not written by schmidt");
  expect_done(into_model + "plan.json");
  expect_done(into_model + "plan.json --force");
  expect_done(compress + "@models/m/small");
  expect_done(compress + "@models/m/small --force");
}

TEST_F(OutputsTest, AnEmptyFolderIsAsGoodAsNoneAndLinksAreFollowed) {
  fs::create_directories(tmp / "c");
  fs::create_directory(tmp / "disk");
  expect_done(compress + "@c");
  fs::create_symlink("disk/made", tmp / "link");
  expect_done(compress + "@link");
  expect_refused(compress + "@link", "exists");
  expect_done(compress + "@link/ --force");
  EXPECT_TRUE(fs::is_symlink(tmp / "link"));
  EXPECT_TRUE(fs::exists(tmp / "disk/made/config.json"));
  fs::create_symlink("disk/plan.json", tmp / "plan.json");
  expect_done("plan @models/m --keep 0.8 --tflops 1 -o @plan.json");
  EXPECT_TRUE(fs::is_symlink(tmp / "plan.json"));
  EXPECT_TRUE(fs::is_regular_file(tmp / "disk/plan.json"));
  fs::create_directory(tmp / "here");
  const auto before = everything();
  expect_refused(compress + ".", "working directory", "here");
  expect_refused(compress + "./ --force", "working directory", "here");
  expect_refused(compress + "../here", "working directory", "here");
  expect_refused(compress + "''", "empty", "here");
  EXPECT_EQ(everything(), before);
  expect_done(
      "compress @models/m --keep 0.8 --calibration @text --calibration-tokens 256 "
      "--calibration-context 64 -o made/",
      "here");
  EXPECT_TRUE(fs::exists(tmp / "here/made/config.json"));
  EXPECT_EQ(std::distance(fs::directory_iterator(tmp / "here"), fs::directory_iterator()), 1);
}

TEST_F(OutputsTest, ASecondRunIntoOnePlaceIsRefusedAtTheStart) {
  expect_done(compress + "@c");
  for (const char* folder : {"o.partial", "p.json.partial", "s"}) {
    fs::create_directory(tmp / folder);
  }
  const auto lock = [&](const char* folder) {
    return FileLock::take(tmp / folder / kLockFile, FileLock::Mode::kExclusive);
  };
  const auto first = lock("o.partial"), second = lock("p.json.partial"), third = lock("s");
  fs::create_directory(tmp / "o.partial/run");
  test::write_file(tmp / "o.partial/run/heal.jsonl", "{}\n");
  const auto before = everything();
  const std::string holder = fmt::format("in use by process {} on ", ::getpid());
  // From a shell in a folder: a fork would hold the locks too.
  const auto refused = [&](const std::string& arguments) {
    expect_refused(arguments, holder, ".");
  };
  for (const std::string force : {"", " --force"}) {
    refused(compress + "@o" + force);
    refused(heal + "@o" + force);
    refused(heal + "@o --resume" + force);
    refused(profile + "@p.json" + force);
    refused("compress @models/m --keep 0.8 --calibration @text --statistics @s -o @n" + force);
    refused(profile + "@n.json --method fisher --statistics @s" + force);
  }
  EXPECT_EQ(everything(), before);
}

TEST_F(OutputsTest, ARefusedFirstTryLeavesNothingInTheWayOfTheCorrectedOne) {
  expect_done(compress + "@c");
  auto other = test::make_tiny_model(1, 5);
  other.config["vocab_size"] = 300;
  other.tensors["model.embed_tokens.weight"] = torch::rand({300, 24});
  test::write_model(other, tmp / "other");
  test::write_byte_tokenizer(tmp / "other");
  auto broken = test::make_tiny_model(2);
  broken.tensors["model.layers.0.self_attn.q_proj.weight"][0][0] =
      std::numeric_limits<float>::quiet_NaN();
  test::write_model(broken, tmp / "broken");
  test::write_byte_tokenizer(tmp / "broken");
  const auto before = everything();
  const std::string calibration =
      " --calibration @text --calibration-tokens 256 --calibration-context 64 -o @new/o";
  const std::string wrong_teacher =
      "heal @c --teacher @other --data @text --tokens 4096 --context 32 --held-out 2 -o @new/o";
  const std::vector<std::string> mistakes = {
      wrong_teacher,
      wrong_teacher + " --top-k 4",
      wrong_teacher + " --block-tokens 128",
      std::string("heal @c --teacher @broken --data @text --tokens 256 --context 32 --held-out 2 "
                  "-o @new/o"),
      std::string("compress @broken --bond 3 -o @new/o"),
      "compress @broken --keep 0.8" + calibration,
      "compress @broken --keep 0.8 --method whitened" + calibration,
      "compress @models/m --keep 0.8 --calibration @missing -o @new/o",
      std::string("profile @broken --text @text --max-tokens 128 --context 64 --keep 0.5 "
                  "-o @new/o.json"),
      std::string("profile @broken --text @text --max-tokens 128 --context 64 --keep 0.5 "
                  "--method fisher -o @new/o.json"),
      std::string("profile @models/m --text @missing --keep 0.5 -o @new/o.json")};
  for (const std::string& refused : mistakes) {
    const int code = run(refused);
    EXPECT_TRUE(code == 2 || code == 3) << refused << ": " << said;
    EXPECT_EQ(everything(), before) << refused << ": " << said;
  }
  expect_done(heal + "@new/o");
}

TEST_F(OutputsTest, WhatAKillLeftBeforeItsFirstResultIsNoWork) {
  expect_done(compress + "@c");
  fs::create_directories(tmp / "o.partial/layers/streams");
  test::write_file(tmp / "o.partial/layers/0123456789abcdef", "");
  test::write_file(tmp / "o.partial/layers/streams/original.0", "half");
  expect_done(compress + "@o");
  fs::create_directories(tmp / "h.partial/run/blocks");
  test::write_file(tmp / "h.partial/run/work-0123456789abcdef", "");
  test::write_file(tmp / "h.partial/run/heal.jsonl", "{\"run\": {}}\n");
  expect_done(heal + "@h");
}

TEST_F(OutputsTest, NamesOfAnyBytesStandInJson) {
  const std::string latin = "caf\xe9";
  fs::rename(tmp / "models/m", tmp / ("models/" + latin));
  fs::copy(tmp / "text", tmp / (latin + ".txt"));
  const std::string model = quoted(tmp / ("models/" + latin)) + " ";
  const std::string text = quoted(tmp / (latin + ".txt")) + " ";
  const auto json = [&](const std::string& arguments) {
    expect_done(arguments + " --json");
    return nlohmann::json::parse(test::read_file(tmp / "stdout"));
  };
  const auto made =
      json("compress " + model + "--keep 0.8 --calibration " + text +
           "--calibration-tokens 256 --calibration-context 64 -o " + quoted(tmp / ("c" + latin)));
  EXPECT_TRUE(made["out"].get<std::string>().ends_with("ccaf\\xE9")) << made["out"];
  const fs::path small = tmp / ("c" + latin);
  const auto config = nlohmann::json::parse(test::read_file(small / "config.json"));
  const auto& calibration = config["compression_config"]["made_by"][0]["calibration"];
  EXPECT_TRUE(calibration["files"][0].get<std::string>().ends_with("caf\\xE9.txt"));
  EXPECT_NE(test::read_file(small / "README.md").find("base_model: caf\\xE9\n"), std::string::npos);
  EXPECT_TRUE(json("inspect " + model)["model"].get<std::string>().ends_with("caf\\xE9"));
  EXPECT_TRUE(json("eval " + model + "--context 64 --text " + text)["texts"][0]["text"]
                  .get<std::string>()
                  .ends_with("caf\\xE9.txt"));
  EXPECT_EQ(json("bench " + model + "-p 4 -n 0 -r 1")["results"].size(), 1U);
  EXPECT_TRUE(
      json("generate " + model + "-n 1 -p a")["model"].get<std::string>().ends_with("caf\\xE9"));
  json("profile " + model + "--text " + text +
       "--max-tokens 128 --context 64 --blocks 0 --layers q_proj --keep 0.5 -o " +
       quoted(tmp / (latin + ".json")));
  const auto page = test::read_file(tmp / (latin + ".html"));
  EXPECT_NE(page.find("caf\\xE9"), std::string::npos);
  EXPECT_EQ(page.find('\xe9'), std::string::npos);
  json("plan " + model + "--profile " + quoted(tmp / (latin + ".json")) +
       " --keep 0.98 --tflops 1 -o " + quoted(tmp / (latin + ".plan")));
  json("heal " + quoted(small) + " --teacher " + model + "--data " + text +
       "--tokens 256 --context 32 --held-out 2 -o @h");
  const auto healed = nlohmann::json::parse(test::read_file(tmp / "h/config.json"));
  EXPECT_EQ(healed["compression_config"]["made_by"][1]["data"][0]["file"], "caf\\xE9.txt");
}

TEST_F(OutputsTest, CellsOfATableStayWithinIt) {
  fs::rename(tmp / "models/m", tmp / "models/a|b");
  ASSERT_EQ(run("bench '@models/a|b' -p 4 -n 0 -r 1"), 0) << said;
  EXPECT_NE(test::read_file(tmp / "stdout").find("models/a\\|b |"), std::string::npos);
}

TEST_F(OutputsTest, OptionsThatNothingReadsAreRefused) {
  expect_done(compress + "@c");
  const auto refused = [&](const std::string& verb, const std::string& options,
                           const std::string& part) {
    expect_refused(verb + options, part + " is read with");
  };
  const std::string healing =
      "heal @c --teacher @models/m --data @text --tokens 4096 --context 32 -o @o ";
  refused("heal @c --teacher @models/m --data @text -o @o ", "--held-out 0 --patience 2",
          "--patience");
  refused(healing, "--evaluate-every 0 --patience 2", "--patience");
  refused("heal @c --teacher @models/m --data @text -o @o ", "--held-out 0 --evaluate-every 5",
          "--evaluate-every");
  refused(healing, "--block-learning-rate 1e-3", "--block-learning-rate");
  refused(healing, "--block-epochs 2", "--block-epochs");
  refused(healing, "--kl 0 --block-tokens 64 --top-k 4", "--top-k");
  refused(healing, "--kl 0", "--teacher");
  refused(healing, "--mix 2", "--mix");
  const std::string blocks =
      "heal @c --teacher @models/m --data @text --tokens 512 --context 32 --block-tokens 512 -o "
      "@o ";
  for (const char* option : {"--learning-rate 1e-3", "--final-share 0.5", "--cross-entropy 2",
                             "--kl 2", "--held-out 3", "--micro-batch 2", "--checkpointing"}) {
    refused(blocks, option, std::string(option).substr(0, std::string(option).find(' ')));
  }
  refused(blocks, "--train embedding,factors", "--train embedding");
  const std::string asked = "profile @models/m --metric boolq --data @d --keep 0.5 -o @p.json ";
  refused(asked, "--method tt-svd --text @text", "--text");
  refused(profile + "@p.json ", "--limit 3", "--limit");
  refused(profile + "@p.json ", "--fewshot 1", "--fewshot");
  refused(profile + "@p.json ", "--damping 0.1", "--damping");
  refused(profile + "@p.json ", "--method tt-svd --ridge 0.1", "--ridge");
  refused(profile + "@p.json ", "--sites 3", "--sites");
  refused(profile + "@p.json ", "--method tt-svd --shape low-rank --sites 3", "--sites");
  expect_done(profile + "@p.json --method tt-svd --sites 3");
  const std::string plan = "plan @models/m --keep 0.8 --tflops 1 -o @plan.json ";
  for (const char* option : {"--sites 3", "--shape low-rank", "--gauge full"}) {
    refused(plan + "--profile @p.json ", option,
            std::string(option).substr(0, std::string(option).find(' ')));
  }
  refused(plan, "--shape low-rank --sites 3", "--sites");
  refused("eval @models/m --text @text ", "--self-tokens 64", "--self-tokens");
  refused("eval @models/m --text self ", "--no-special", "--no-special");
  for (const char* option : {"--top-k 3", "--top-p 0.5", "--min-p 0.1"}) {
    const std::string name = std::string(option).substr(0, std::string(option).find(' '));
    refused("generate @models/m -p a --temp 0 ", option, name);
    refused("chat @models/m --temp 0 ", option, name);
  }
  refused("generate @models/m -p a --json ", "--echo", "--echo");
  refused("bench @models/m --json ", "-o csv", "--output");
  EXPECT_FALSE(fs::exists(tmp / "o.partial"));
}

}  // namespace
}  // namespace schmidt
