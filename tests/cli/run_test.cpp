#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::test {
namespace {

namespace fs = std::filesystem;

class RunVerb : public ::testing::Test {
 protected:
  RunVerb() {
    write_model(make_tiny_model(), tmp / "m");
    write_byte_tokenizer(tmp / "m");
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("line {} of a text\n", i * i);
    write_file(tmp / "text", text);
    write_file(tmp / "chain.yaml", chain);
  }

  /// In the temporary folder, with one thread.
  Ran run(const std::string& arguments) {
    return run_in_shell(tmp, fmt::format("cd {} && $S run {}", tmp.path().string(), arguments));
  }

  Ran run_yaml(const std::string& yaml, const std::string& arguments = "-o out") {
    write_file(tmp / "r.yaml", yaml);
    return run("r.yaml " + arguments);
  }

  void expect_refused(const std::string& yaml, int code, const std::string& part,
                      const std::string& arguments = "-o refused") {
    const Ran ran = run_yaml(yaml, arguments);
    EXPECT_EQ(ran.code, code) << yaml << ran.err;
    EXPECT_EQ(ran.out, "") << yaml;
    EXPECT_EQ(std::ranges::count(ran.err, '\n'), 1) << yaml << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
    EXPECT_NE(ran.err.find(part), std::string::npos) << ran.err << "\n  not: " << part;
    EXPECT_FALSE(fs::exists(tmp / "refused"));
  }

  /// Stages that a run did, by what it said of its progress.
  static std::vector<std::string> done_in(const Ran& ran) {
    std::vector<std::string> names;
    const std::regex line("stage \\d+ of \\d+: \\w+ (\\S+)\n");
    for (std::sregex_iterator at(ran.err.begin(), ran.err.end(), line), end; at != end; ++at) {
      names.push_back((*at)[1]);
    }
    return names;
  }

  nlohmann::json json_in(const std::string& name) {
    return nlohmann::json::parse(read_file(tmp / name));
  }

  static constexpr const char* chain =
      "variables:\n"
      "  bits: 8\n"
      "  data: text\n"
      "stages:\n"
      "  - name: small\n"
      "    compress: {model: m, bond: 3, threads: 1}\n"
      "  - name: rounded\n"
      "    quantize: {model: small, bits: '${bits}', group: 0, method: nearest}\n"
      "  - name: score\n"
      "    eval: {model: rounded, reference: m, text: ['${data}'], context: 64}\n";
  using Names = std::vector<std::string>;
  TemporaryFolder tmp;
};

TEST_F(RunVerb, DoesItsStagesOnceAndAgainWhatHasChanged) {
  const std::string command = "chain.yaml -o out --threads 1";
  const Ran first = run(command);
  ASSERT_EQ(first.code, 0) << first.err;
  EXPECT_EQ(done_in(first), (Names{"small", "rounded", "score"}));
  EXPECT_NE(first.err.find("stage 2 of 3: quantize rounded\n"), std::string::npos) << first.err;
  EXPECT_NE(first.out.find("perplexity "), std::string::npos) << first.out;
  EXPECT_GT(json_in("out/score.json")["texts"][0]["kl"]["mean"].get<double>(), 0.0);

  // Each stage is the verb with the same options.
  const Ran by_hand = run_in_shell(
      tmp, fmt::format("cd {} && $S compress m --bond 3 --threads 1 -o by_hand -q && $S quantize "
                       "by_hand --bits 8 --group 0 --method nearest -o by_hand8 -q && "
                       "cmp by_hand8/model.safetensors out/rounded/model.safetensors",
                       tmp.path().string()));
  EXPECT_EQ(by_hand.code, 0) << by_hand.err;

  const auto record = fs::last_write_time(tmp / "out/run.json");
  const Ran again = run(command + " --json");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(done_in(again), Names{});
  EXPECT_EQ(fs::last_write_time(tmp / "out/run.json"), record);
  const auto shown = nlohmann::json::parse(again.out);
  EXPECT_EQ(shown["stages"].size(), 3u);
  EXPECT_EQ(shown["stages"][0]["done_before"], true);
  EXPECT_EQ(shown["stages"][2]["result"], json_in("out/score.json"));

  const Ran changed = run("chain.yaml -o out --set bits=4 --threads 2");
  ASSERT_EQ(changed.code, 0) << changed.err;
  EXPECT_EQ(done_in(changed), (Names{"rounded", "score"})) << "threads change no result";

  write_file(tmp / "text", read_file(tmp / "text") + "one more line\n");
  EXPECT_EQ(done_in(run(command + " --set bits=4")), Names{"score"});

  fs::remove_all(tmp / "out/small");  // what it is made of has not changed
  EXPECT_EQ(done_in(run(command + " --set bits=4")), Names{"small"});
  EXPECT_EQ(done_in(run(command + " --set bits=4 --force")), (Names{"small", "rounded", "score"}));
  EXPECT_EQ(done_in(run(command + " --set bits=4 --seed 1")), (Names{"small", "rounded", "score"}));
}

TEST_F(RunVerb, ALauncherStartsStagesThatRanksShare) {
  write_file(tmp / "launch", "#!/bin/sh\necho \"$1 $2 $4\" >>launched\nshift 2\nexec \"$@\"\n");
  fs::permissions(tmp / "launch", fs::perms::owner_all);
  const std::string compress = "    compress: {model: m, bond: 3}\n";
  const std::string variables = "variables: {launcher: []}\nstages:\n";
  const std::string launched = "    launcher: \"${launcher}\"\n";
  write_file(tmp / "r.yaml", variables + "  - name: small\n" + launched + compress +
                                 "  - {name: plan, plan: {model: m, keep: 0.9, tflops: 1}}\n");
  const Ran foretold = run("r.yaml -o out --dry-run --set 'launcher=./launch -n 2'");
  EXPECT_NE(foretold.out.find("compress by ./launch -n 2"), std::string::npos) << foretold.out;
  ASSERT_EQ(run("r.yaml -o out --set 'launcher=./launch -n 2'").code, 0);
  EXPECT_EQ(read_file(tmp / "launched"), "-n 2 compress\n");
  EXPECT_EQ(done_in(run("r.yaml -o out")), Names{}) << "who starts a stage changes no result";
  ASSERT_EQ(run("r.yaml -o out --force").code, 0);
  EXPECT_EQ(read_file(tmp / "launched"), "-n 2 compress\n") << "an empty list starts nothing";

  const auto stage = [&](const std::string& launcher, const std::string& verb) {
    return "stages:\n  - name: s\n    launcher: " + launcher + "\n" + verb;
  };
  expect_refused(stage("./launch -n 2", "    plan: {model: m, keep: 0.9, tflops: 1}\n"), 3,
                 "stage \"s\": plan is the work of one process; expected no launcher, got "
                 "\"./launch -n 2\"");
  expect_refused(stage("[./launch, -n 2]", "    eval: {model: m, text: text}\n"), 3,
                 "eval of texts is the work of one process");
  expect_refused(stage("", compress), 3, "expected a value, got nothing");
  for (const auto& [launcher, reason] :
       {std::pair{"no-such-launcher", "cannot start no-such-launcher: No such file"},
        {"echo", "of the first rank alone, got "}}) {
    const Ran ran = run_yaml(stage(launcher, compress), "-o other");
    EXPECT_EQ(ran.code, 2) << ran.err;
    EXPECT_NE(ran.err.find(reason), std::string::npos) << ran.err;
  }
}

TEST_F(RunVerb, GoesOnInTheStageThatWasStopped) {
  write_file(tmp / "heal.yaml",
             "stages:\n"
             "  - {name: small, compress: {model: m, bond: 3}}\n"
             "  - name: healed\n"
             "    heal: {model: small, teacher: m, data: text, tokens: 60k, context: 32,\n"
             "           held-out: 2, batch: 4}\n"
             "  - {name: plan, plan: {model: m, keep: 0.9, tflops: 1}}\n");
  // The state is there once the data has been looked through.
  const std::string wait =
      "for i in $(seq 600); do ls out/healed.partial/*/* >/dev/null 2>&1 && break; sleep 0.05; "
      "done\n"
      "sleep 0.3\n";
  const auto stopped_by = [&](const char* signal) {
    return run_in_shell(tmp, fmt::format("cd {}\n$S run heal.yaml -o out --threads 1 &\n{}"
                                         "kill -{} $!\nwait $!\ncode=$?\n"
                                         "for i in $(seq 200); do flock -n out/healed.partial/"
                                         ".schmidt.lock true && break; sleep 0.05; done\n"
                                         "exit $code",
                                         tmp.path().string(), wait, signal));
  };
  const Ran stopped = stopped_by("TERM");
  EXPECT_EQ(stopped.code, 143) << stopped.err;
  EXPECT_NE(stopped.err.find("--resume goes on from it"), std::string::npos) << stopped.err;
  EXPECT_NE(stopped.err.find("stopped in stage 2 of 3, healed"), std::string::npos) << stopped.err;
  EXPECT_FALSE(fs::exists(tmp / "out/healed"));
  EXPECT_TRUE(fs::exists(tmp / "out/healed.partial"));

  const Ran killed = stopped_by("KILL");  // its stage ends with it
  EXPECT_EQ(killed.code, 137) << killed.err;

  const Ran rest = run("heal.yaml -o out --threads 1");
  ASSERT_EQ(rest.code, 0) << rest.err;
  EXPECT_EQ(done_in(rest), (Names{"healed", "plan"}));
  EXPECT_TRUE(fs::exists(tmp / "out/healed/config.json"));
  EXPECT_TRUE(fs::exists(tmp / "out/plan.json"));
}

// As a kill leaves it between a result and the record of it.
TEST_F(RunVerb, AResultWithoutItsRecordIsKept) {
  ASSERT_EQ(run("chain.yaml -o out --threads 1").code, 0);
  const auto made = fs::last_write_time(tmp / "out/small/model.safetensors");
  for (const bool finished : {false, true}) {
    nlohmann::json record = json_in("out/run.json");
    for (const char* stage : {"small", "score"}) {
      record["stages"][stage]["finished"] = finished;
      record["stages"][stage]["result"] = nullptr;
    }
    write_file(tmp / "out/run.json", record.dump());
    const Ran rest = run("chain.yaml -o out --threads 1 --json");
    ASSERT_EQ(rest.code, 0) << rest.err;
    EXPECT_EQ(done_in(rest), (Names{"small", "score"}));
    EXPECT_EQ(fs::last_write_time(tmp / "out/small/model.safetensors"), made);
    const auto shown = nlohmann::json::parse(rest.out)["stages"];
    EXPECT_GT(shown[0]["result"]["keep"], 0.0);
    EXPECT_EQ(shown[2]["result"], json_in("out/score.json"));
  }
}

TEST_F(RunVerb, ATokenizerAndFoldersOfDataAreInputs) {
  const std::string yaml =
      "stages:\n"
      "  - {name: score, eval: {model: m, text: text, context: 64}}\n"
      "  - {name: quiz, eval: {model: m, tasks: piqa, data: data}}\n";
  const std::string question = R"({"goal": "a", "sol1": "b", "sol2": "c", "label": 0})";
  fs::create_directories(tmp / "data/piqa");
  write_file(tmp / "data/piqa/validation.jsonl", question + "\n");
  const Ran first = run_yaml(yaml, "-o out --threads 1");
  ASSERT_EQ(first.code, 0) << first.err;
  write_file(tmp / "out/score.html", "notes");
  write_file(tmp / "data/piqa/validation.jsonl", question + "\n" + question + "\n");
  EXPECT_EQ(done_in(run_yaml(yaml, "-o out --threads 1")), Names{"quiz"});
  write_file(tmp / "m/generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_EQ(done_in(run_yaml(yaml, "-o out --threads 1")), (Names{"score", "quiz"}));
  EXPECT_TRUE(fs::exists(tmp / "out/score.html")) << "an evaluation draws nothing";
}

TEST_F(RunVerb, TwoRunsDoNotShareAFolder) {
  fs::create_directory(tmp / "out");
  const Ran second =
      run_in_shell(tmp, fmt::format("cd {} && flock out/.schmidt.lock $S run chain.yaml -o out -q",
                                    tmp.path().string()));
  EXPECT_EQ(second.code, 2);
  EXPECT_NE(second.err.find("another process"), std::string::npos) << second.err;
  EXPECT_FALSE(fs::exists(tmp / "out/small"));
}

TEST_F(RunVerb, AStageThatCannotBeStartedSaysSo) {
  const Ran ran = run_yaml(
      "stages:\n  - {name: s, generate: {model: m, prompt: " + std::string(200000, 'a') + "}}\n");
  EXPECT_EQ(ran.code, 2) << ran.err;
  EXPECT_NE(ran.err.find("cannot start"), std::string::npos) << ran.err;
}

TEST_F(RunVerb, AFailedStageEndsTheRunWithItsError) {
  const std::string yaml =
      "stages:\n"
      "  - {name: small, compress: {model: m, bond: 3}}\n"
      "  - {name: score, eval: {model: small, text: short, context: 64}}\n";
  write_file(tmp / "short", "x");
  const Ran ran = run_yaml(yaml);
  EXPECT_EQ(ran.code, 2) << ran.err;
  EXPECT_EQ(std::regex_search(ran.err, std::regex("(^|\n)error: [^\n]*\n$")), true) << ran.err;
  write_file(tmp / "short", read_file(tmp / "text"));
  EXPECT_EQ(done_in(run_yaml(yaml)), Names{"score"});
}

TEST_F(RunVerb, SaysWhatIsWrongInOneLineBeforeItStarts) {
  const auto stage = [](const std::string& rest) { return "stages:\n  - name: s\n" + rest; };
  expect_refused("stages: [\n", 3, "r.yaml: line 2, column 1: expected YAML");
  expect_refused(stage("    draw: {}\n"), 3,
                 "line 2, column 5: stage \"s\": there is no verb \"draw\" for a stage; expected "
                 "one of sample, profile, plan, compress");
  expect_refused(stage("    report: {results: out}\n"), 3, "\"results\" is for run to say");
  expect_refused(stage("    compress: {model: m, siez: 80MB}\n"), 3,
                 "line 3, column 32: stage \"s\": compress has no option \"siez\"; expected one of "
                 "model, keep, size");
  expect_refused(stage("    compress: {model: m, out: x}\n"), 3, "\"out\" is for run to say");
  expect_refused(stage("    heal: {model: m, data: text, resume: true}\n"), 3,
                 "\"resume\" is for run to say");
  expect_refused(stage("    quantize: {model: m, bits: 7}\n"), 3,
                 "line 3, column 32: stage \"s\", quantize: --bits: 7 not in {");
  expect_refused(stage("    quantize: {model: m}\n"), 3, "quantize: --bits is required");
  expect_refused(stage("    compress: {model: m, bond: 3, keep: 0.5}\n"), 3,
                 "line 2, column 5: stage \"s\": [compress] expected one of --keep, --size");
  expect_refused(stage("    eval: {model: m}\n"), 3, "[eval] expected either --text or --tasks");
  expect_refused(stage("    heal: {model: m, data: text, mix: [1, 2]}\n"), 3,
                 "[heal] expected a share in --mix for each file");
  expect_refused(stage("    compress: {bond: 3}\n"), 3, "compress: MODEL is required");
  expect_refused(stage("    quantize: {model: m, bits: [4, 8]}\n"), 3, "bits: expected one value");
  expect_refused(stage("    eval: {model: m, text: text, no-special: 1}\n"), 3,
                 "no-special: expected true or false, got 1");
  expect_refused(stage("    eval: {model: s, text: text}\n"), 3,
                 "model: stage \"s\" comes not before itself");
  expect_refused(
      "stages:\n  - {name: a, quantize: {model: b, bits: 8}}\n"
      "  - {name: b, quantize: {model: a, bits: 8}}\n",
      3, "line 2, column 33: stage \"a\", model: stage \"b\" comes later");
  expect_refused(
      "stages:\n  - {name: a, eval: {model: m, text: text}}\n"
      "  - {name: a.json, export: {model: m, to: gguf}}\n",
      3, "line 3, column 5: stage \"a.json\": what it writes at refused/a.json is an earlier");
  expect_refused(stage("    eval: {model: m, text: texts}\n"), 2,
                 "r.yaml: line 3, column 28: stage \"s\", text: expected a file or an earlier "
                 "stage, got \"texts\", which does not exist");
  expect_refused(stage("    eval: {model: no, text: text}\n"), 2, "expected a model or an earlier");
  expect_refused(stage("    eval: {model: no/model, text: text}\n"), 2, "hf download");
  expect_refused(stage("    compress: {model: m, keep: 0.0001, method: tt-svd}\n"), 2,
                 "line 2, column 5: stage \"s\": ");
  const auto refuse_stages = [&](const std::string& stages, int code, const std::string& part) {
    expect_refused("stages:\n" + stages, code, part);
  };
  refuse_stages(
      "  - {name: q.partial, compress: {model: m, bond: 3}}\n"
      "  - {name: q, quantize: {model: m, bits: 8, group: 0}}\n",
      3, "stage \"q\": what it writes at refused/q.partial is an earlier stage's too");
  refuse_stages("  - {name: r, report: {}}\n", 3, "expected stages before it");
  refuse_stages("  - {name: g, generate: {model: m}}\n", 3, "expected prompt or prompt-file");
  refuse_stages("  - {name: q, quantize: {model: m, bits: 4, method: nearest}}\n", 2,
                "expected groups that divide");
  refuse_stages("  - {name: e, eval: {model: m, text: text}}\n", 2, "positions, got 512");
  refuse_stages("  - {name: b, bench: {model: m, n-prompt: 512}}\n", 2, "positions, got 512");
  refuse_stages("  - {name: e, eval: {model: m, tasks: piqa, data: nowhere}}\n", 2,
                "expected a folder that is there, got nowhere");
  refuse_stages("  - {name: e, eval: {model: m, text: text, context: 0100}}\n", 3,
                "begins with a zero");
  expect_refused(chain, 2, "--set bit: expected a variable", "--set bit=4 -o refused");
  expect_refused(chain, 2, "--set expected NAME=VALUE", "--set bits -o refused");
  expect_refused(chain, 2, "expected RECIPE and --out", "");
  EXPECT_EQ(run("no.yaml -o refused").code, 2);

  fs::create_directory(tmp / "taken");
  write_file(tmp / "taken/notes", "");
  const Ran taken = run("chain.yaml -o taken");
  EXPECT_EQ(taken.code, 2);
  EXPECT_NE(taken.err.find("taken holds notes"), std::string::npos) << taken.err;
  fs::create_directory(tmp / "taken/small");
  write_file(tmp / "taken/run.json", R"({"version": 1, "stages": {}})");
  EXPECT_NE(run("chain.yaml -o taken").err.find("is no result of this run"), std::string::npos);
}

TEST_F(RunVerb, AReportShowsTheStagesBeforeItAndFollowsThem) {
  const std::string yaml =
      "variables: {bits: 8}\n"
      "stages:\n"
      "  - {name: small, quantize: {model: m, bits: '${bits}', group: 0, method: nearest}}\n"
      "  - {name: score, eval: {model: small, reference: m, text: text, context: 64}}\n"
      "  - {name: speed, bench: {model: [m, small], n-prompt: 4, n-gen: 2, repetitions: 1}}\n"
      "  - {name: words, generate: {model: small, prompt: [one, 'two, three'], temp: 0,\n"
      "                             max-tokens: 4}}\n"
      "  - {name: page, report: {}}\n";
  const Ran first = run_yaml(yaml, "-o out --threads 1 -q");
  ASSERT_EQ(first.code, 0) << first.err;
  const std::string page = read_file(tmp / "out/page.html");
  const auto holds = [&](const std::string& part) { return page.find(part) != std::string::npos; };
  const auto score = json_in("out/score.json")["texts"][0];
  EXPECT_TRUE(holds(fmt::format(">{:.3f}<", score["perplexity"].get<double>()))) << page;
  EXPECT_TRUE(holds(fmt::format(">{:.4f}<", score["kl"]["mean"].get<double>())));
  EXPECT_TRUE(holds(fmt::format(
      ">{:.2f}<", json_in("out/speed.json")["results"][1]["tokens_per_second"].get<double>())));
  const auto record = json_in("out/run.json");
  EXPECT_EQ(record["models"].size(), 1u);
  EXPECT_EQ(record["models"][0]["parameters"], record["stages"]["small"]["result"]["parameters"]);
  EXPECT_EQ(record["recipe"][1]["reads"][0]["stage"], "small");
  EXPECT_EQ(json_in("out/words.json")["continuations"][1]["prompt"], "two, three");
  for (const char* part : {">two, three</h3>", "href=\"words.json\"", "href=\"run.json\"",
                           "schmidt quantize m --bits=8", "Quality against bytes"}) {
    EXPECT_TRUE(holds(part)) << part;
  }
  EXPECT_FALSE(holds("Not all of the run"));

  EXPECT_EQ(done_in(run_yaml(yaml, "-o out --threads 1")), Names{});
  const Ran changed = run_yaml(yaml, "-o out --threads 1 --set bits=4");
  EXPECT_EQ(done_in(changed), (Names{"small", "score", "speed", "words", "page"})) << changed.err;
  EXPECT_NE(read_file(tmp / "out/page.html").find("bits 4"), std::string::npos);
  EXPECT_NE(run_yaml(yaml, "-o out --dry-run").out.find("all above"), std::string::npos);

  const std::string report = fmt::format("cd {} && $S report ", tmp.path().string());
  const Ran again = run_in_shell(tmp, report + "out -o page.html --json");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(nlohmann::json::parse(again.out)["unfinished"], 0);
  EXPECT_EQ(run_in_shell(tmp, report + "out -o page.html").code, 2) << "it is there";
  EXPECT_EQ(run_in_shell(tmp, report + "out -o page.html --force").code, 0);
  EXPECT_EQ(run_in_shell(tmp, report + "m -o other.html").code, 2) << "that is no run";
  write_file(tmp / "out/score.json", "{");
  const Ran broken = run_in_shell(tmp, report + "out -o other.html");
  EXPECT_EQ(broken.code, 3) << broken.err;
  EXPECT_TRUE(broken.err.starts_with("error: out/score.json: ")) << broken.err;
  EXPECT_FALSE(fs::exists(tmp / "other.html"));
}

TEST_F(RunVerb, ADryRunForetellsBytesAndWritesNothing) {
  const std::string yaml =
      "stages:\n"
      "  - {name: plan, plan: {model: m, keep: 0.9}}\n"
      "  - {name: planned, compress: {model: m, plan: plan}}\n"
      "  - {name: half, compress: {model: m, bond: 3, dtype: bfloat16}}\n"
      "  - {name: rounded, quantize: {model: half, bits: 8, group: 0, method: nearest}}\n"
      "  - {name: copy, export: {model: rounded, to: transformers}}\n"
      "  - {name: score, eval: {model: copy, reference: m, text: text, context: 64,\n"
      "                       max-tokens: 256}}\n"
      "  - {name: speed, bench: {model: [m, rounded], n-prompt: 4, n-gen: 2, repetitions: 1}}\n"
      "  - {name: healed, heal: {model: half, teacher: m, data: text, tokens: 256, context: 32,\n"
      "                          held-out: 2}}\n";
  const Ran dry = run_yaml(yaml, "-o out --dry-run --json");
  ASSERT_EQ(dry.code, 0) << dry.err;
  EXPECT_FALSE(fs::exists(tmp / "out"));
  const auto foretold = nlohmann::json::parse(dry.out)["stages"];
  ASSERT_EQ(foretold.size(), 8u);
  EXPECT_EQ(dry.err, "");
  const Ran table = run_yaml(yaml, "-o out --dry-run");
  EXPECT_TRUE(std::regex_search(table.out, std::regex("rounded +quantize +half +\\S+ kB +- +-\n")))
      << table.out;
  EXPECT_FALSE(fs::exists(tmp / "out"));

  ASSERT_EQ(run_yaml(yaml, "-o out --threads 1").code, 0);
  for (const auto& stage : foretold) {
    const fs::path weights = tmp / "out" / stage["name"].get<std::string>() / "model.safetensors";
    const bool is_model = fs::exists(weights);
    EXPECT_EQ(stage.contains("bytes"), is_model) << stage;
    const auto bytes = static_cast<double>(is_model ? fs::file_size(weights) : 0);
    const double of_header = stage["verb"] == "export" ? 32 : 0;  // it says there who wrote it
    EXPECT_NEAR(stage.value("bytes", 0.0), bytes, of_header) << stage;
  }
  for (const int whole : {5, 6, 7}) EXPECT_GT(foretold[whole]["memory_bytes"], 5e4);
  EXPECT_GT(foretold[7]["seconds"], foretold[5]["seconds"]);  // forward alone, as many tokens
  EXPECT_GT(foretold[5]["seconds"], 0.0);
  const Ran done = run_yaml(yaml, "-o out --threads 1 --dry-run");
  EXPECT_TRUE(std::regex_search(done.out, std::regex("score +eval +copy, m, text .*done\n")))
      << done.out;
}

TEST_F(RunVerb, ARecipeThatDoesNotFitTheMachineIsRefused) {
  nlohmann::json config = make_tiny_model().config;
  config["hidden_size"] = 1 << 18;
  config["intermediate_size"] = 1 << 20;
  config["num_hidden_layers"] = 100;
  config["num_attention_heads"] = config["num_key_value_heads"] = 1 << 10;
  config["head_dim"] = 1 << 8;
  write_file(tmp / "large.json", config.dump());
  const std::string memory =
      "stages:\n  - {name: s, eval: {model: large.json, text: text, context: 64}}\n";
  expect_refused(memory, 2, "line 2, column 5: stage \"s\" takes ");
  expect_refused("stages:\n  - {name: s, compress: {model: m, size: 500000000GB}}\n", 2,
                 "stage \"s\" and those before it write ");
  const Ran dry = run_yaml(memory, "-o refused --dry-run");
  EXPECT_EQ(dry.code, 2) << dry.err;
  EXPECT_NE(dry.out.find("TB"), std::string::npos) << dry.out;
  EXPECT_EQ(std::ranges::count(dry.err, '\n'), 1) << dry.err;
}

TEST_F(RunVerb, TheSchemaInTheTreeIsTheProgramsOwn) {
  const Ran schema = run("--schema");
  ASSERT_EQ(schema.code, 0) << schema.err;
  EXPECT_EQ(schema.out, read_file(source_dir() / "docs/recipe.schema.json"))
      << "schmidt run --schema > docs/recipe.schema.json";
  const auto json = nlohmann::json::parse(schema.out);
  const auto& options = json["$defs"]["quantize"]["properties"];
  EXPECT_EQ(options["bits"]["anyOf"][1]["enum"][0], 8);
  EXPECT_EQ(options["embedding-bits"]["default"], 8);
  EXPECT_EQ(json["$defs"]["heal"]["properties"]["warmup"]["anyOf"][1]["maximum"], 0.99);
  EXPECT_FALSE(options.contains("out"));
  EXPECT_EQ(json["$defs"]["heal"]["required"], (nlohmann::json{"model", "data"}));
}

TEST_F(RunVerb, TheExamplesAreRecipes) {
  TinyModel model = make_tiny_model(/*blocks=*/2, /*seed=*/1, /*scale=*/16);
  model.config["max_position_embeddings"] = 2048;
  write_model(model, tmp / "m16");
  int seen = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() / "examples/recipes")) {
    ++seen;
    const Ran ran = run(
        fmt::format("{} -o out --dry-run --set model=m16 --set text=text --set calibration=text",
                    entry.path().string()));
    EXPECT_EQ(ran.code, 0) << entry.path() << ran.err;
    EXPECT_FALSE(fs::exists(tmp / "out"));
  }
  EXPECT_GT(seen, 0);
}

TEST_F(RunVerb, ThePaperRunsToItsEnd) {
  TinyModel model = make_tiny_model(/*blocks=*/2, /*seed=*/1, /*scale=*/16);
  model.config["max_position_embeddings"] = 512;
  write_model(model, tmp / "m16");
  write_byte_tokenizer(tmp / "m16");
  std::string arguments = (source_dir() / "examples/recipes/paper.yaml").string() + " -o out";
  for (const char* value :
       {"model=m16", "own-tokens=4k", "calibration-tokens=1024", "test-tokens=1024", "steps=1",
        "keep=0.8", "size=1.5MB", "heal-tokens=1024", "heal-context=128", "bonds=3", "blocks=0",
        "rounds=1"}) {
    arguments += std::string(" --set ") + value;
  }
  const Ran ran = run(arguments);
  ASSERT_EQ(ran.code, 0) << ran.err;
  const auto stages = json_in("out/run.json")["stages"];
  EXPECT_LE(stages["few-bits"]["result"]["bytes"], 1.5e6);
  for (const auto& stage : stages) EXPECT_TRUE(stage["finished"]) << stage;
  EXPECT_TRUE(fs::exists(tmp / "out/report.html"));
}

}  // namespace
}  // namespace schmidt::test
