#include <cstdio>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "schmidt/io/checkpoint.h"

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

using test::Ran;

// `arguments` may hold redirections.
Ran schmidt(const test::TemporaryFolder& tmp, const std::string& arguments) {
  return test::run_in_shell(tmp, "$S " + arguments);
}

class CliTest : public ::testing::Test {
 protected:
  CliTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    model = (tmp / "m").string();
    out = (tmp / "out").string();
    test::write_file(tmp / "text", std::string(300, 'a') + "\nTwo words.\n");
    text = (tmp / "text").string();
  }

  Ran run(const std::string& arguments) { return schmidt(tmp, arguments); }

  nlohmann::json json(const std::string& arguments) {
    const Ran ran = run(arguments + " --json");
    EXPECT_EQ(ran.code, 0) << arguments << ": " << ran.err;
    return nlohmann::json::parse(ran.out);
  }

  // One line, exit code, nothing on stdout, and `part` in the message.
  void expect_error(const std::string& arguments, int code, const std::string& part) {
    const Ran ran = run(arguments);
    EXPECT_EQ(ran.code, code) << arguments << "\n" << ran.err;
    EXPECT_EQ(ran.out, "") << arguments;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << arguments << "\n" << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
    EXPECT_NE(ran.err.find(part), std::string::npos) << arguments << "\n" << ran.err;
  }

  test::TemporaryFolder tmp;
  std::string model, out, text;
};

TEST_F(CliTest, HelpAndVersion) {
  EXPECT_EQ(run("--help").code, 0);
  EXPECT_NE(run("compress --help").out.find("--bond"), std::string::npos);
  EXPECT_TRUE(run("--version").out.starts_with("schmidt 0."));
}

TEST_F(CliTest, TheChainFromInspectToChat) {
  const auto before = json("inspect " + model);
  EXPECT_EQ(before["keep"], 1.0);

  const auto made = json(
      fmt::format("compress {} --keep 0.8 --share-inputs -o {} --seed 3 --calibration-tokens 1024",
                  model, out));
  EXPECT_EQ(made["dense_parameters"], before["parameters"]);
  EXPECT_LE(made["keep"].get<double>(), 0.8);
  EXPECT_GT(made["keep"].get<double>(), 0.7);
  EXPECT_EQ(made["layers"].size(), 8u);  // q/k/v and gate/up share their inputs' basis
  EXPECT_EQ(made["layers"][0]["method"], "fisher");
  EXPECT_FALSE(fs::exists(out + ".statistics"));

  const auto after = json("inspect " + out);
  EXPECT_EQ(after["parameters"], made["parameters"]);
  EXPECT_EQ(after["dense_parameters"], before["parameters"]);

  const auto scores =
      json(fmt::format("eval {} --reference {} --text {} --context 64", out, model, text));
  EXPECT_EQ(scores["texts"][0]["tokens"], 4 * 63);  // 312 bytes: four whole windows
  EXPECT_GT(scores["texts"][0]["kl"]["mean"].get<double>(), 0.0);

  const auto same =
      json(fmt::format("eval {} --reference {} --text {} --context 64", model, model, text));
  EXPECT_NEAR(same["texts"][0]["kl"]["max"].get<double>(), 0.0, 1e-5);
  EXPECT_EQ(same["texts"][0]["top1_agreement"], 1.0);

  const auto generated = json(fmt::format("generate {} --prompt abc -n 8 --seed 5", out));
  EXPECT_EQ(generated["prompt_tokens"], 3);
  EXPECT_EQ(generated, json(fmt::format("generate {} --prompt abc -n 8 --seed 5", out)));

  test::write_file(tmp / "line", "Hi\n/reset\nHi\n");
  const Ran twice =
      run(fmt::format("chat {} -n 4 --temperature 0 --json <{}", out, (tmp / "line").string()));
  ASSERT_EQ(twice.code, 0) << twice.err;
  const size_t middle = twice.out.find('\n');
  EXPECT_EQ(twice.out.substr(0, middle + 1), twice.out.substr(middle + 1));
}

TEST_F(CliTest, CalibratesOnFilesAndKeepsTheStatistics) {
  std::string chat;
  for (int i = 0; i < 40; ++i) {
    chat += R"({"messages": [{"role": "user", "content": "Hi"},)"
            R"( {"role": "assistant", "content": "Hello to you."}]})"
            "\n";
  }
  test::write_file(tmp / "chat.jsonl", chat);
  const std::string statistics = (tmp / "statistics").string();
  const std::string command = fmt::format(
      "compress {} --calibration {},{} --calibration-tokens 512 --calibration-context 64 "
      "--statistics {} -o {}",
      model, text, (tmp / "chat.jsonl").string(), statistics, out);
  ASSERT_EQ(run(command + " --keep 0.8").code, 0);
  const auto stamp = fs::last_write_time(fs::path(statistics) / "block.0.safetensors");
  // Other sizes and other layers, the same statistics.
  const auto again = json(command + "2 --keep 0.6 --ignore gate_proj");
  EXPECT_LE(again["keep"].get<double>(), 0.6);
  EXPECT_EQ(fs::last_write_time(fs::path(statistics) / "block.0.safetensors"), stamp);
  expect_error(command + "3 --keep 0.6 --seed 8", 2, "[statistics]");

  const auto refused = [&](const std::string& name, const std::string& content, int code,
                           const std::string& part) {
    test::write_file(tmp / name, content);
    expect_error(fmt::format("compress {} --keep 0.8 --calibration {} -o {}4", model,
                             (tmp / name).string(), out),
                 code, part);
  };
  refused("empty.txt", "", 3, "empty.txt");
  refused("short.txt", "A few words.", 2, "short.txt has 12 tokens; expected at least one window");
  EXPECT_FALSE(fs::exists(out + "4.partial")) << "nothing had begun";
  refused("bad.jsonl", chat + "{\n", 3, "line 41");
  const Ran skipped =
      run(fmt::format("compress {} --keep 0.8 --calibration {} --skip-bad -o {}5 --calibration-"
                      "context 64 --calibration-tokens 100000",
                      model, (tmp / "bad.jsonl").string(), out));
  EXPECT_EQ(skipped.code, 0);
  EXPECT_NE(skipped.err.find("bad.jsonl: 1 broken lines were left out"), std::string::npos);
  EXPECT_NE(skipped.err.find("of 100000 asked for"), std::string::npos) << skipped.err;
  const auto recipe = io::Checkpoint::open(out + "5").config()["compression_config"]["made_by"][0];
  EXPECT_LT(recipe["calibration"]["tokens"], 10000);
  EXPECT_EQ(recipe["shape"], "low-rank");
  refused("latin.txt", "caf\xe9", 3, "byte 3: expected UTF-8");
}

TEST_F(CliTest, ConversationsThatTheFormatCannotWriteAreBrokenLines) {
  test::write_byte_tokenizer(
      tmp / "m", {.chat_template = "{% for m in messages %}{% if (m.role == 'user') != "
                                   "(loop.index0 % 2 == 0) %}{{ raise_exception('in turn') }}"
                                   "{% endif %}{{ m.content }}{% endfor %}"});
  std::string lines;
  for (int i = 0; i < 40; ++i)
    lines += R"({"data": ["A question.", "An answer of some words."]})"
             "\n";
  const std::string file = (tmp / "chat.JSONL").string();
  for (const char* bad :
       {R"({"messages": [{"role": "tool", "content": "x"}]})",
        R"({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]})"}) {
    test::write_file(file, lines + bad + "\n");
    const std::string compress = fmt::format(
        "compress {} --keep 0.8 --force --calibration {} --calibration-context 64 "
        "--calibration-tokens 100000 -o {}9",
        model, file, out);
    expect_error(compress, 3, "chat.JSONL: line 41: ");
    const Ran skipped = run(compress + " --skip-bad");
    EXPECT_EQ(skipped.code, 0) << skipped.err;
    EXPECT_NE(skipped.err.find("1 broken lines were left out"), std::string::npos) << skipped.err;
  }
}

TEST_F(CliTest, TextThatIsNotUtf8IsRefusedByEveryVerb) {
  using namespace std::string_literals;
  for (const auto& [bytes, part] : std::vector<std::pair<std::string, std::string>>{
           {"\xFF\xFEt\0e\0x\0t\0"s,
            "text.txt: byte 0: expected UTF-8, got what looks like UTF-16"},
           {"some caf\xe9", "text.txt: byte 8: expected UTF-8"}}) {
    const std::string file = (tmp / "text.txt").string();
    test::write_file(file, bytes);
    for (const std::string& verb :
         {fmt::format("eval {} --context 4 --text {}", model, file),
          fmt::format("tokenize {} --text {}", model, file),
          fmt::format("generate {} -n 1 -f {}", model, file),
          fmt::format("compress {} --keep 0.8 --calibration {} -o {}8", model, file, out),
          fmt::format("profile {} --text {} -o {}8.json", model, file, out)}) {
      expect_error(verb, 3, part);
    }
    expect_error(fmt::format("tokenize {} <{}", model, file), 3, "standard input: byte ");
  }
  test::write_file(tmp / "text.txt", "\xEF\xBB\xBFsome text of a few words");
  test::write_file(tmp / "plain.txt", "some text of a few words");
  EXPECT_EQ(run(fmt::format("tokenize {} --text {}", model, (tmp / "text.txt").string())).out,
            run(fmt::format("tokenize {} --text {}", model, (tmp / "plain.txt").string())).out);
}

// Records are read as such whatever the case of the name, and from an array.
TEST_F(CliTest, EvalReadsRecords) {
  const std::string record = R"({"text": "some text of a few words"})";
  test::write_file(tmp / "a.JSONL", record + "\n" + record + "\n");
  test::write_file(tmp / "b.json", "[" + record + ", " + record + "]");
  test::write_file(tmp / "c.txt", "some text of a few wordssome text of a few words");
  std::string texts[3];
  for (int i = 0; const char* name : {"a.JSONL", "b.json", "c.txt"}) {
    const Ran ran =
        run(fmt::format("eval {} --context 8 --json --text {}", model, (tmp / name).string()));
    EXPECT_EQ(ran.code, 0) << ran.err;
    texts[i++] = ran.out.substr(ran.out.find("\"perplexity\""));
  }
  EXPECT_EQ(texts[0], texts[2]);
  EXPECT_EQ(texts[1], texts[2]);
}

TEST_F(CliTest, OptionsThatNothingReadsAreRefused) {
  const auto refused = [&](const std::string& options, const std::string& part) {
    expect_error(fmt::format("compress {} {} -o {}", model, options, out), 2, part);
  };
  refused("--keep 0.8 --sites 3",
          "--sites is read by --method tt-svd, als, gauss-newton, sum, auto");
  refused("--keep 0.8 --shape balanced", "(m, 1) x (1, n) alone");
  refused("--keep 0.8 --sweeps 2", "--sweeps is read by --method als, not by fisher");
  refused("--keep 0.8 --method als --rounds 2", "--rounds");
  refused("--keep 0.8 --tolerance 0.1", "--tolerance");
  refused("--keep 0.8 --method whitened --statistics s", "--statistics");
  refused("--keep 0.8 --method whitened --allocation sensitivity", "[allocation]");
  refused("--keep 0.8 --method auto --shape balanced", "--allocation uniform");
  refused("--bond 3 --calibration self", "--calibration");
  refused("--bond 3 --calibration-tokens 512", "--calibration-tokens");
  refused("--bond 3 --ignore donw_proj", "[ignore] no dense layer matches \"donw_proj\"");
  EXPECT_EQ(run(fmt::format("compress {} --bond 3 --ignore none -o {}", model, out)).code, 0);
}

TEST_F(CliTest, QuantizesInOneLine) {
  const auto plain = json("inspect " + model);
  const std::string q = "quantize " + model + " --group 12 ";
  const auto made = json(q + "--bits 8 -o " + out);
  EXPECT_LT(made["bytes"], plain["bytes"]);
  EXPECT_EQ(made["keep"], 1.0);
  EXPECT_EQ(made["layers"].size(), 15);
  const auto inspected = json("inspect " + out);
  EXPECT_EQ(inspected["modules"][0]["stored_as"], "int8 symmetric, groups of 12");
  const auto kl =
      json(fmt::format("eval {} --reference {} --text {} --context 32", out, model, text));
  EXPECT_LT(kl["texts"][0]["kl"]["mean"], 1e-3);
  EXPECT_EQ(run(fmt::format("generate {} --prompt a -n 3", out)).code, 0);
  // Whatever it was healed on, codes are codes.
  EXPECT_EQ(run(q + fmt::format("--bits 2 --steps 3 --calibration {} --calibration-tokens 96 "
                                "--calibration-context 32 -o {}2",
                                text, out))
                .code,
            0);
  EXPECT_NE(run(q + "--bits 7 -o x").code, 0);
  expect_error("quantize " + model + " --bits 4 --group 7 -o x", 2, "groups that divide");
  expect_error(q + "--bits 8 --steps 3 -o x", 2, "--steps");
  EXPECT_EQ(run(q + fmt::format("--bits 8 --layers dense -o {}3", out)).code, 0);
  expect_error(fmt::format("quantize {}3 --group 12 --bits 8 --layers all -o x", out), 2,
               "nothing is left");
  expect_error(fmt::format("quantize {}3 --group 12 --bits 8 --layers q_proj -o x", out), 2,
               "not quantized yet, got q_proj");
  expect_error(q + "--bits 4 --method nearest --calibration-tokens 96 -o x", 2,
               "--calibration-tokens");
  expect_error(fmt::format("quantize {} --group 12 --bits 4 --method nearest -o x", out), 2,
               "nothing is left");
}

TEST_F(CliTest, HealingThatGainsNothingSaysSo) {
  // Of one letter each: the same in all records, or in each another.
  const auto heal = [&](int step, const std::string& rate) {
    std::string records;
    for (int i = 0; i < 8; ++i) {
      const std::string letters(24, static_cast<char>('a' + step * i));
      records += fmt::format("{{\"text\": \"{}\"}}\n", letters);
    }
    test::write_file(tmp / "records.jsonl", records);
    const Ran ran = run(fmt::format(
        "heal {} --kl 0 --cross-entropy 1 --train dense --data {} --held-out 1 --context 16 "
        "--batch 1 --tokens 64 --learning-rate {} --force -o {}",
        model, (tmp / "records.jsonl").string(), rate, out));
    EXPECT_EQ(ran.code, 0) << ran.err;
    return ran.out;
  };
  constexpr const char* kNothing = "written as they were";
  EXPECT_NE(heal(1, "10").find(kNothing), std::string::npos);
  EXPECT_EQ(heal(0, "0.001").find(kNothing), std::string::npos);
}

TEST_F(CliTest, SpendsBytesAndPlansThem) {
  const std::string calibrated = fmt::format(
      "--calibration {} --calibration-tokens 96 --calibration-context 32 --steps 3", text);
  const std::string compress = fmt::format("compress {} --group 12 {} ", model, calibrated);
  const std::string statistics = (tmp / "statistics").string(), planned = (tmp / "p.json").string(),
                    other = (tmp / "q.json").string();
  const auto made =
      json(compress + fmt::format("--size 23KB --statistics {} -o {}", statistics, out));
  EXPECT_LE(fs::file_size(out + "/model.safetensors"), 23000U);
  EXPECT_TRUE(made["layers"][0].contains("form"));
  EXPECT_GT(made["predicted_loss"], 0.0);
  EXPECT_EQ(run(fmt::format("generate {} --prompt a -n 3", out)).code, 0);

  const auto told =
      run(compress + fmt::format("--size 23KB --statistics {} -o {}4", statistics, out));
  EXPECT_NE(told.out.find("\nforms            int"), std::string::npos) << told.out;

  const auto plan = json(fmt::format("plan {} --size 23KB --statistics {} --group 12 -o {}", model,
                                     statistics, planned));
  EXPECT_LE(plan["bytes"], 23000.0);
  EXPECT_EQ(plan["frontiers"].size(), 3U);
  EXPECT_TRUE(fs::exists(tmp / "p.svg"));
  EXPECT_EQ(
      run(fmt::format("compress {} --plan {} {} -o {}2", model, planned, calibrated, out)).code, 0);

  const auto refused = [&](const std::string& options, const std::string& part) {
    expect_error(fmt::format("compress {} {} -o {}3", model, options, out), 2, part);
    EXPECT_FALSE(fs::exists(out + "3"));
  };
  const std::string forms = "out of reach: the smallest forms of the layers take ";
  refused("--size 2kB", "2.00 kB is " + forms);
  const std::string said = run(compress + "--size 2kB -o " + out + "3").err;
  const std::string least = said.substr(said.find(forms) + forms.size(), said.npos);
  json(compress + fmt::format("--size '{}' --statistics {} -o {}5",
                              least.substr(0, least.size() - 1), statistics, out));
  refused("--size lots", "[size] expected bytes");
  refused("--size 1e300", "[size] expected 1 byte to 1e18 bytes");
  refused("--size 20KB --keep 0.5", "expected one of --keep, --size");
  refused("--speedup 1.2 --keep 0.5", "expected one of --keep, --size");
  refused("--speedup 0.9 --calibration " + text, "expected a speedup above 1");
  refused("--speedup 1.2 --layers q_proj", "excludes");
  refused("--size 20KB --batch 2", "--batch is read with --speedup");
  refused("--size 20KB --method fisher", "makes no integers of few bits");
  refused("--keep 0.8 --method learned", "makes integers of few bits");
  refused("--keep 0.8 --forms sums", "--forms");
  refused("--size 20KB --share-inputs", "--share-inputs");
  expect_error(fmt::format("plan {} --keep 0.8 --statistics {} -o {}", model, statistics, other), 2,
               "--statistics expected --size");
  expect_error(fmt::format("plan {} --size 20KB --statistics {} -o {}", model, out, other), 2,
               "expected statistics in");
  expect_error(fmt::format("plan {} --size 20KB --statistics {} -o {}", out, statistics, other), 2,
               "made from another model");
}

TEST_F(CliTest, AnotherMethodLeavesStatisticsAlone) {
  test::write_file(tmp / "out.statistics", "hours of work");
  EXPECT_EQ(run(fmt::format("compress {} --bond 3 -o {}", model, out)).code, 0);
  EXPECT_EQ(test::read_file(tmp / "out.statistics"), "hours of work");
}

TEST_F(CliTest, ForceDropsTheStatisticsOfOtherWork) {
  fs::create_directories(out + ".statistics");
  test::write_file(out + ".statistics/statistics.json", R"({"fingerprint": "other", "done": 3})");
  test::write_file(out + ".statistics/block.0.safetensors", "of the other");
  const std::string command =
      fmt::format("compress {} --keep 0.8 -o {} --calibration-tokens 512", model, out);
  expect_error(command, 2, "[statistics]");
  EXPECT_EQ(run(command + " --force").code, 0);
  EXPECT_FALSE(fs::exists(out + ".statistics"));
}

TEST_F(CliTest, TheGaugeAskedForIsTheOneStored) {
  for (const auto& [gauge, saved] : {std::pair{"fixed", true}, {"full", false}}) {
    const auto made =
        json(fmt::format("compress {} --keep 0.8 -o {} --calibration-tokens 512 "
                         "--gauge {} --force",
                         model, out, gauge));
    EXPECT_LE(made["keep"].get<double>(), 0.8);
    for (const auto& layer : made["layers"]) {
      const int64_t m = layer["out_dims"][0][0], n = layer["in_dims"][0][1];
      const int64_t r = layer["bonds"][0][0];
      EXPECT_EQ(layer["parameters"], r * (m + n) - (saved ? r * r : 0)) << layer["name"];
    }
  }
}

TEST_F(CliTest, VerboseSaysWhatItRunsOn) {
  const Ran ran = run(fmt::format("eval {} --text {} --context 64 -v --threads 1", model, text));
  EXPECT_NE(ran.err.find("1 threads, device cpu, seed 0"), std::string::npos) << ran.err;
}

TEST_F(CliTest, SelfTextDependsOnTheSeedOnly) {
  const std::string command =
      fmt::format("eval {} --text self --self-tokens 256 --context 64 --seed ", model);
  const auto first = json(command + "1");
  EXPECT_EQ(first["texts"][0]["tokens"], 4 * 63);
  EXPECT_EQ(first, json(command + "1"));
  EXPECT_NE(first, json(command + "2"));
}

TEST_F(CliTest, TokenizeAndBack) {
  const Ran ids = run(fmt::format("tokenize {} --text {}", model, text));
  ASSERT_EQ(ids.code, 0) << ids.err;
  EXPECT_EQ(std::count(ids.out.begin(), ids.out.end(), '\n'), 2);
  EXPECT_TRUE(ids.out.starts_with("100 100 100 ")) << "'a' is byte 97, id 100";
  test::write_file(tmp / "ids", ids.out);
  const Ran back = run(fmt::format("detokenize {} <{}", model, (tmp / "ids").string()));
  EXPECT_EQ(back.out, test::read_file(text));
}

TEST_F(CliTest, BenchPrintsEveryFormat) {
  const std::string command = fmt::format("bench {} {} -p 16 -n 4 -r 2 -q", model, model);
  EXPECT_TRUE(run(command).out.starts_with("| model |"));
  EXPECT_TRUE(run(command + " -o csv").out.starts_with("model,"));
  const auto measured = json(command);
  ASSERT_EQ(measured["results"].size(), 4u);
  EXPECT_EQ(measured["results"][0]["test"], "pp16");
  EXPECT_EQ(measured["results"][0]["ratio_to_first"], 1.0);
  EXPECT_EQ(measured["results"][0]["samples"].size(), 2u);
}

TEST_F(CliTest, BenchSaysWhatATokenReads) {
  const auto measured = json(fmt::format("bench {} -p 4 -n 4 -r 1 -q", model));
  EXPECT_GT(measured["read_bytes_per_second"], 1e8);
  EXPECT_FALSE(measured["results"][0].contains("bytes_per_token"));  // a prompt reads them once
  const auto& decode = measured["results"][1];
  // The embedding is the output layer, so that all weights count, and keys and values of two and a
  // half tokens on average: two blocks with two heads of six numbers.
  const double cache = 2.5 * 2 * 2 * 2 * 6 * sizeof(float);
  EXPECT_EQ(decode["bytes_per_token"], decode["weight_bytes"].get<double>() + cache);
  EXPECT_NEAR(decode["share_of_read_speed"].get<double>(),
              decode["tokens_per_second"].get<double>() * decode["bytes_per_token"].get<double>() /
                  measured["read_bytes_per_second"].get<double>(),
              1e-9);
  const auto batch = json(fmt::format("bench {} -p 0 -n 4 -b 2 -r 1 -q", model))["results"][0];
  EXPECT_EQ(batch["bytes_per_token"], decode["weight_bytes"].get<double>() / 2 + cache);
}

TEST_F(CliTest, ExactIsTakenByWhatGenerates) {
  const std::string small = (tmp / "int4").string();
  ASSERT_EQ(
      run(fmt::format("quantize {} --group 12 --bits 4 --method nearest -o {}", model, small)).code,
      0);
  const std::string ask = fmt::format("generate {} -p abc -n 4 --temperature 0 --json", small);
  EXPECT_EQ(json(ask + " --exact")["ids"].size(), json(ask)["ids"].size());
  EXPECT_EQ(run(fmt::format("bench {} -p 2 -n 2 -r 1 -q --exact", small)).code, 0);
  EXPECT_EQ(run(fmt::format("chat {} -n 2 -q --exact </dev/null", small)).code, 0);
}

TEST_F(CliTest, CacheTypesAreTakenByWhatDecodes) {
  const std::string ask = fmt::format("generate {} -p abc -n 8 --temperature 0 --json", model);
  const auto plain = json(ask);
  EXPECT_EQ(json(ask + " --cache-type model")["ids"], plain["ids"]);
  for (const std::string type : {"bfloat16", "int8"}) {
    EXPECT_EQ(json(ask + " --cache-type " + type)["ids"].size(), plain["ids"].size());
    EXPECT_EQ(run(fmt::format("chat {} -n 2 -q --cache-type {} </dev/null", model, type)).code, 0);
  }
  const auto read = [&](const std::string& type) {
    const auto measured =
        json(fmt::format("bench {} -p 0 -n 4 -r 1 -q --cache-type {}", model, type));
    EXPECT_EQ(measured["cache_type"], type);
    const auto& decode = measured["results"][0];
    return decode["bytes_per_token"].get<double>() - decode["weight_bytes"].get<double>();
  };
  EXPECT_EQ(read("model"), 2.5 * 2 * 2 * 2 * 6 * 4);
  EXPECT_EQ(read("bfloat16"), 2.5 * 2 * 2 * 2 * 6 * 2);
  EXPECT_EQ(read("int8"), 2.5 * 2 * 2 * 2 * (6 + 4)) << "codes and a scale for each head";
  expect_error("generate " + model + " -p abc --cache-type int4", 2, "--cache-type");
}

TEST_F(CliTest, NetworksAreHeldAsAsked) {
  ASSERT_EQ(run(fmt::format("compress {} --method tt-svd --shape balanced --sites 3 --bond 4 -o {}",
                            model, out))
                .code,
            0);
  const std::string ask = fmt::format("generate {} -p abc -n 4 --temperature 0 --json", out);
  EXPECT_EQ(json(ask + " --networks cores")["ids"], json(ask)["ids"]);
  EXPECT_EQ(json(ask + " --networks fastest")["ids"], json(ask)["ids"]);
  expect_error("generate " + out + " -p abc --networks all", 2, "--networks");
}

TEST_F(CliTest, NumbersBeyondTheirTypeAreRefused) {
  const std::string large = "99999999999999999999";
  expect_error("generate " + model + " -p abc -n " + large, 2, "does not fit 64 bits");
  expect_error("generate " + model + " -p abc -n -" + large, 2, "--max-tokens");
  expect_error("generate " + model + " -p abc --seed " + large, 2, "--seed");
  expect_error(fmt::format("compress {} --bond {} -o {}", model, large, out), 2, "--bond");
  expect_error("generate " + model + " -p abc -n 0xffffffffffffffffffff", 2, "64 bits");
  EXPECT_EQ(run("generate " + model + " -p abc -n 1 --seed 18446744073709551615").code, 0);
}

TEST_F(CliTest, CallersMistakes) {
  expect_error("", 2, "subcommand");
  expect_error("squash " + model, 2, "squash");
  expect_error("inspect", 2, "MODEL");
  expect_error(fmt::format("bench {} -b 9223372036854775807", model), 2, "--batch");
  expect_error(fmt::format("serve {} --name ''", model), 2, "--name");
  expect_error(fmt::format("serve {} --api-key 'k '", model), 2, "--api-key");
  expect_error(fmt::format("generate {} -p a -p $(printf 'a%.0s' $(seq 600))", model), 2,
               "prompt 2");
  expect_error("inspect /no/such/folder", 2, "/no/such/folder");
  expect_error(fmt::format("compress {} -o {}", model, out), 2, "one of --keep, --size");
  expect_error(fmt::format("compress {} --keep 0.5 --bond 3 -o {}", model, out), 2, "several");
  expect_error(fmt::format("compress {} --bond 0 -o {}", model, out), 2, "bond");
  expect_error(fmt::format("compress {} --keep 0 -o {}", model, out), 2, "(0, 1]");
  expect_error(fmt::format("compress {} --keep 1.5 -o {}", model, out), 2, "(0, 1]");
  expect_error(fmt::format("compress {} --keep half -o {}", model, out), 2, "half");
  expect_error(fmt::format("compress {} --keep 0.001 -o {}", model, out), 2, "out of reach");
  expect_error(fmt::format("compress {} --bond 3 --sites 9 -o {}", model, out), 2, "sites");
  expect_error(fmt::format("compress {} --bond 3 --out-dims 5,5 --in-dims 4,6 -o {}", model, out),
               2, "q_proj is 24 x 24");
  expect_error(fmt::format("compress {} --bond 3 --layers nothing -o {}", model, out), 2,
               "nothing");
  expect_error(fmt::format("compress {} --bond 3 -o {}", model, model), 2, "exists");
  expect_error(
      fmt::format("compress {} --keep 0.8 --method auto --out-dims 4,6 --in-dims 4,6 -o {}", model,
                  out),
      2, "--allocation uniform");
  expect_error(fmt::format("compress {} --keep 0.8 --method sum --sites 9 -o {}", model, out), 2,
               "sites");
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(out + ".partial"));
  expect_error(fmt::format("generate {} --prompt ''", model), 2, "prompt");
  expect_error(fmt::format("generate {} --prompt-file {}", model, text), 2, "128");
  expect_error(fmt::format("generate {} --prompt a --temperature -1", model), 2, "temperature");
  expect_error(fmt::format("eval {} --text {} --context 400", model, text), 2, "128");
  expect_error(fmt::format("eval {} --text /no/such/text", model), 2, "/no/such/text");
  expect_error(fmt::format("eval {} --text {}", model, model), 2, "cannot read");
  test::write_file(tmp / "short", "abc");
  expect_error(fmt::format("eval {} --text {} --context 64", model, (tmp / "short").string()), 2,
               "3 tokens");
}

TEST_F(CliTest, CudaIsAskedForPolitely) {
  if (run(fmt::format("generate {} --prompt a -n 1 --device cuda", model)).code == 0) {
    GTEST_SKIP() << "a CUDA device is here";
  }
  expect_error(fmt::format("generate {} --prompt a --device cuda", model), 2, "CUDA");
}

TEST_F(CliTest, BadFiles) {
  const auto with = [&](const std::function<void(test::TinyModel&)>& change) {
    test::TinyModel bad = test::make_tiny_model();
    change(bad);
    const std::string folder = (tmp / "bad").string();
    fs::remove_all(folder);
    test::write_model(bad, folder);
    test::write_byte_tokenizer(folder);
    return folder;
  };
  // Each verb that reads weights says so, and writes nothing.
  const auto expect_bad = [&](const std::string& folder, const std::string& part) {
    for (const std::string& command :
         {"inspect " + folder, fmt::format("generate {} --prompt a", folder),
          fmt::format("eval {} --text {} --context 64", folder, text),
          fmt::format("compress {} --bond 3 -o {}", folder, out),
          fmt::format("compress {} --keep 0.8 -o {}", folder, out)}) {
      expect_error(command, 3, part);
      EXPECT_FALSE(fs::exists(out));
      EXPECT_FALSE(fs::exists(out + ".partial"));
    }
  };
  expect_bad(with([](auto& m) { m.config["model_type"] = "gpt_neox"; }), "gpt_neox");
  expect_bad(with([](auto& m) { m.tensors.erase("model.norm.weight"); }), "model.norm.weight");
  expect_bad(with([](auto& m) {
               auto& w = m.tensors["model.layers.0.mlp.up_proj.weight"];
               w = w.to(torch::kInt32);
             }),
             "up_proj");
  const std::string nan = with([](auto& m) {
    m.tensors["model.layers.1.mlp.gate_proj.weight"][3][4] =
        std::numeric_limits<float>::quiet_NaN();
  });
  expect_error(fmt::format("generate {} --prompt a", nan), 3, "gate_proj.weight: holds NaN");
  expect_error(fmt::format("compress {} --bond 3 -o {}", nan, out), 3,
               "gate_proj.weight: holds NaN");
  EXPECT_FALSE(fs::exists(out));
  fs::remove_all(out + ".partial");
  const std::string overflowing =
      with([](auto& m) { m.tensors["model.layers.0.input_layernorm.weight"] *= 1e30; });
  expect_error(fmt::format("compress {} --keep 0.8 --calibration {} --calibration-tokens 256 -o {}",
                           overflowing, text, out),
               2, "activations overflow");
  expect_error(fmt::format("compress {} --keep 0.8 --method whitened --calibration {} "
                           "--calibration-tokens 256 -o {}",
                           overflowing, text, out),
               2, "activations or gradients overflow");
  EXPECT_FALSE(fs::exists(out));
  fs::remove_all(out + ".partial");
  expect_bad(with([](auto& m) { m.config["num_attention_heads"] = 5; }), "num_");
  expect_bad(with([](auto& m) { m.config["vocab_size"] = 300; }), "embed_tokens");
  const std::string folder = with([](auto&) {});
  test::write_file(tmp / "bad/config.json", "{\"model_type\": \"llama\", ");
  expect_bad(folder, "config.json");
  expect_error("inspect " + text, 2, text);
}

TEST_F(CliTest, FullDiskLeavesNothingBehind) {
  const std::string compress = fmt::format("compress {} --bond 3 -o {}", model, out);
  const std::string calibrated = fmt::format(
      "compress {} --keep 0.8 --calibration {} --calibration-tokens 256 --calibration-context 64 "
      "-q "
      "-o {}",
      model, text, out);
  const std::string heal = fmt::format(
      "heal {} --kl 0 --cross-entropy 1 --data {} --held-out 0 --train dense -q -o {} --context "
      "128 "
      "--batch 2 --tokens 1024 --dtype float32",
      model, text, out);
  for (const std::string& command : {compress, calibrated, heal + " --resume"}) {
    // A quota of 8 KiB on the size of files stands for a full disk; SIGXFSZ is ignored
    // so that write() fails with an error.
    const std::string err = (tmp / "stderr").string();
    const int status =
        std::system(fmt::format("bash -c \"trap '' XFSZ; ulimit -f 8; {} {} 2>{} >/dev/null\"",
                                SCHMIDT_PROGRAM, command, err)
                        .c_str());
    EXPECT_EQ(WEXITSTATUS(status), 2) << command;
    EXPECT_TRUE(test::read_file(err).starts_with("error: cannot write")) << test::read_file(err);
    EXPECT_FALSE(fs::exists(out));
    EXPECT_EQ(run(command).code, 0) << "room again: the same command goes on: " << command;
    fs::remove_all(out);
  }
}

TEST_F(CliTest, OutOfMemoryIsSaidInOneLineAndTheRunGoesOnInSmallerPieces) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's address space has no limit";
#endif
  const std::string heal = fmt::format(
      "heal {} --kl 0 --cross-entropy 1 --data {} --held-out 0 --train dense -q -o {} --context "
      "128 "
      "--batch 2048 --tokens 262144 --dtype float32",
      model, text, out);
  const auto with_700_mb = [&](const std::string& arguments) {
    return WEXITSTATUS(
        std::system(fmt::format("ulimit -v 700000; OMP_NUM_THREADS=1 {} {} >/dev/null 2>{}",
                                SCHMIDT_PROGRAM, arguments, (tmp / "stderr").string())
                        .c_str()));
  };
  EXPECT_EQ(with_700_mb(heal), 2);
  const std::string said = test::read_file(tmp / "stderr");
  EXPECT_TRUE(said.starts_with("error: out of memory: ")) << said;
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(with_700_mb(heal + " --resume --micro-batch 16"), 0) << test::read_file(tmp / "stderr");
}

TEST_F(CliTest, WorkThatRanOutOfMemoryGoesOnWhereThereIsMemoryAgain) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's address space has no limit";
#endif
  std::string words;
  for (int i = 0; words.size() < 80'000; ++i) words += fmt::format("{} is not {}\n", i, i * i);
  test::write_file(tmp / "words", words);
  const auto with_megabytes = [&](int64_t megabytes, const std::string& arguments) {
    return WEXITSTATUS(
        std::system(fmt::format("ulimit -v {}000; {} {} >/dev/null 2>{}", megabytes,
                                SCHMIDT_PROGRAM, arguments, (tmp / "stderr").string())
                        .c_str()));
  };
  int64_t enough = 300;  // for the program itself
  while (with_megabytes(enough, "inspect " + model + " --threads 1") != 0) {
    ASSERT_LT(enough += 20, 3000);
  }
  const std::string words_file = (tmp / "words").string();
  const std::string compress = fmt::format(
      "compress {} --keep 0.8 --calibration {} --calibration-tokens 80000 --threads 1 -o {}", model,
      words_file, out);
  const std::string profile = fmt::format(
      "profile {} --text {} --max-tokens 80000 --layers q_proj --blocks 1 --keep 0.3 --threads 1 "
      "-o {}.json",
      model, words_file, out);
  for (const auto& [command, result] : {std::pair{compress, out}, {profile, out + ".json"}}) {
    EXPECT_EQ(with_megabytes(enough + 50, command), 2) << command;
    const std::string said = test::read_file(tmp / "stderr");
    EXPECT_NE(said.find("error: out of memory"), std::string::npos) << said;
    EXPECT_FALSE(fs::exists(result));
    EXPECT_EQ(run(command).code, 0);
    EXPECT_TRUE(fs::exists(result));
  }
}

}  // namespace
}  // namespace schmidt
