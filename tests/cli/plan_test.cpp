#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

class PlanVerbTest : public ::testing::Test {
 protected:
  PlanVerbTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("line {} of a text\n", i * i);
    test::write_file(tmp / "text", text);
  }

  test::Ran run(const std::string& arguments) { return test::run_in_shell(tmp, "$S " + arguments); }

  nlohmann::json json(const std::string& arguments) {
    const test::Ran ran = run(arguments + " --json");
    EXPECT_EQ(ran.code, 0) << arguments << ": " << ran.err;
    return nlohmann::json::parse(ran.out, nullptr, false);
  }

  void expect_error(const std::string& arguments, int code, const std::string& part) {
    const auto [got, out, err] = run(arguments);
    EXPECT_EQ(got, code) << arguments;
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << err;
    EXPECT_NE(err.find(part), std::string::npos) << err;
  }

  const std::string profile = "profile @m --text @text --context 64 --max-tokens 256 -o @p.json ";
  test::TemporaryFolder tmp;
};

TEST_F(PlanVerbTest, FromProfileToCompressedModel) {
  const auto profiled = json(profile + "--keep 0.2,0.5 --share-inputs");
  EXPECT_EQ(profiled["layers"], 8);
  EXPECT_EQ(profiled["points"], 16);
  for (const char* file : {"p.json", "p.svg", "p.html"}) EXPECT_TRUE(fs::exists(tmp / file));
  EXPECT_FALSE(fs::exists(tmp / "p.json.partial"));

  const auto planned = json("plan @m --profile @p.json --keep 0.8 -o @plan.json --tflops 1");
  EXPECT_LE(planned["keep"].get<double>(), 0.8);
  EXPECT_GT(planned["keep"].get<double>(), 0.78);
  EXPECT_LE(planned["loss"].get<double>(), planned["uniform_loss"].get<double>());
  EXPECT_GT(planned["healing_seconds"].get<double>(), 0.0);

  const auto made = json(
      "compress @m --plan @plan.json --calibration @text --calibration-context 64 "
      "--calibration-tokens 256 -o @c");
  EXPECT_EQ(made["parameters"], planned["parameters"]);
  EXPECT_EQ(made["layers"].size(), planned["layers"]);

  const auto control =
      json("plan @m --profile @p.json --keep 0.8 --allocation uniform -o @u.json --tflops 1");
  EXPECT_NEAR(control["loss"].get<double>(), planned["uniform_loss"].get<double>(), 1e-9);
}

TEST_F(PlanVerbTest, ProfilesATaskAndPlansByIt) {
  fs::create_directories(tmp / "data/boolq");
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += fmt::format(R"({{"question": "is {0}", "passage": "{0} it is.", "answer": "{1}"}})"
                         "\n",
                         i, i % 2 == 0 ? "True" : "False");
  }
  test::write_file(tmp / "data/boolq/dev.jsonl", lines);
  const std::string asked = profile + "--metric boolq --keep 0.2,0.5 ";
  const auto profiled = json(asked + "--data @data --limit 10");
  const double dense = profiled["dense"].get<double>();
  EXPECT_NEAR(10 * dense, std::round(10 * dense), 1e-9);
  const test::Ran printed = run("plan @m --profile @p.json --keep 0.8 -o @text.json --tflops 1");
  EXPECT_EQ(printed.code, 0) << printed.err;
  EXPECT_NE(printed.out.find(" of accuracy, the sum"), std::string::npos);
  const auto planned = json("plan @m --profile @p.json --keep 0.8 -o @plan.json --tflops 1");
  EXPECT_LE(planned["keep"].get<double>(), 0.8);
  expect_error(asked + "--force", 2, "the folder that holds boolq");
  fs::create_directory(tmp / "empty");
  expect_error(asked + "--force --data @empty", 2, "boolq");
  expect_error(asked + "--force --data @data --fewshot 1", 2, "without worked examples");
  expect_error(profile + "--force --data @data", 2, "a metric that is a task");
  test::write_file(tmp / "data/boolq/dev.jsonl", lines + "{\"question\": \"is\"}");
  expect_error(asked + "--force --data @data", 3, "line 13");
}

TEST_F(PlanVerbTest, ProtectsLayersAndCountsBytes) {
  const auto sized = json("plan @m --size 26KB -o @s.json --tflops 1 --protect L1,mlp.up_proj");
  EXPECT_LE(sized["bytes_float16"].get<double>(), 26e3);  // pivots included
  EXPECT_GT(sized["bytes_float16"].get<double>(), 24e3);
  const auto plan = nlohmann::json::parse(test::read_file(tmp / "s.json"));
  for (const auto& layer : plan["layers"]) {
    const auto name = layer["name"].get<std::string>();
    EXPECT_FALSE(name.ends_with("q_proj") || name.ends_with("up_proj") ||
                 name.ends_with("down_proj"))
        << name;
  }
  EXPECT_EQ(plan["layers"].size(), 8u);
  EXPECT_EQ(plan["dense"].size(), 6u);
}

TEST_F(PlanVerbTest, CompressWritesTheBytesThatWerePlanned) {
  for (const std::string dtype : {"", " --dtype float32"}) {
    const double bytes = dtype.empty() ? 26e3 : 52e3;
    const auto sized =
        json(fmt::format("plan @m --size {} -o @s.json --tflops 1 --force{}", bytes, dtype));
    json("compress @m --plan @s.json -o @c --force");
    // A safetensors file's header aside.
    const auto weights = static_cast<double>(fs::file_size(tmp / "c/model.safetensors"));
    EXPECT_NEAR(weights - bytes, 0, 8e3) << dtype;
    EXPECT_EQ(sized["keep"], nlohmann::json::parse(test::read_file(tmp / "s.json"))["keep"]);
  }
}

TEST_F(PlanVerbTest, DryRunOnAConfigAlone) {
  const std::string config = (test::source_dir() / "examples/llama-2-7b.config.json").string();
  const auto planned = json("plan " + config + " --preset compactifai-93 -o @l.json --tflops 1");
  EXPECT_EQ(fmt::format("{:.1f}", planned["parameters"].get<double>() * 1e-9), "2.1");
  EXPECT_EQ(fmt::format("{:.1f}", planned["bytes_float16"].get<double>() * 1e-9), "4.1");
  EXPECT_EQ(fmt::format("{:.1f}", planned["bytes"].get<double>() * 1e-9), "2.0");
}

// The paper's five: what is planned of a config alone are the bytes of the file that is written.
TEST_F(PlanVerbTest, TheFiveModelsTakeThePlannedBytes) {
  test::TinyModel model = test::make_tiny_model(1, 3, 16);
  for (const std::string dtype : {"float32", "bfloat16"}) {
    model.config["torch_dtype"] = dtype;
    for (auto& [name, tensor] : model.tensors) {
      tensor = tensor.to(dtype == "float32" ? torch::kFloat32 : torch::kBFloat16);
    }
    const fs::path folder = test::write_model(model, tmp / dtype);
    double before = 1e9;
    for (const std::string preset :
         {"original", "int8", "int4", "compactifai-88", "compactifai-93"}) {
      const std::string from = "@" + dtype + "/config.json";
      const auto dry =
          json(fmt::format("plan {} --preset {} -o @d.json --tflops 1 --force", from, preset));
      const auto planned =
          json(fmt::format("plan @{} --preset {} --method {} -o @p.json --tflops 1 --force", dtype,
                           preset, preset.starts_with("int") ? "nearest" : "tt-svd"));
      EXPECT_EQ(dry["bytes"], planned["bytes"]) << preset;
      json("compress @" + dtype + " --plan @p.json -o @five --force");
      const auto bytes = static_cast<double>(fs::file_size(tmp / "five/model.safetensors"));
      EXPECT_EQ(bytes, planned["bytes"].get<double>()) << preset << " of " << dtype;
      if (preset == "compactifai-88") continue;  // beside int4
      EXPECT_LT(bytes, before) << preset;
      before = bytes;
    }
  }
  // As quantize makes them.
  json("quantize @float32 --bits 8 -o @q8");
  EXPECT_EQ(json("plan @float32 --preset int8 -o @q.json --tflops 1")["bytes"],
            fs::file_size(tmp / "q8/model.safetensors"));
  json("quantize @float32 --bits 4 --method nearest -o @q4");
  EXPECT_EQ(json("plan @float32 --preset int4 -o @q.json --tflops 1 --force")["bytes"],
            fs::file_size(tmp / "q4/model.safetensors"));
}

// Several files, each with a header of its own.
TEST_F(PlanVerbTest, SizesOfLlama2ToTheByte) {
  const std::string config = (test::source_dir() / "examples/llama-2-7b.config.json").string();
  const auto gigabytes = [&](const std::string& preset) {
    const auto planned =
        json(fmt::format("plan {} --preset {} -o @l.json --tflops 1 --force", config, preset));
    return fmt::format("{:.1f}", planned["bytes"].get<double>() * 1e-9);
  };
  EXPECT_EQ(gigabytes("original"), "27.0");
  EXPECT_EQ(gigabytes("int8"), "6.9");
  EXPECT_EQ(gigabytes("int4"), "3.8");
  EXPECT_EQ(gigabytes("compactifai-88"), "4.1");
  EXPECT_EQ(gigabytes("compactifai-93"), "2.0");
  const auto protects =
      json("plan " + config + " --preset int4 --protect mlp.up_proj -o @l.json --tflops 1 --force");
  EXPECT_EQ(protects["layers"], 2 + 6 * 32);
  expect_error("plan " + config + " --preset int4 --method tt-svd -o @x.json", 2, "no integers");
  expect_error("plan " + config + " --preset compactifai-88 --method nearest -o @x.json", 2,
               "expected one that makes networks");
  expect_error("plan " + config + " --preset compactifai-88 --group 32 -o @x.json", 2, "--group");
}

TEST_F(PlanVerbTest, MistakesAreOneLine) {
  expect_error("plan @m --preset compactifai-88 -o @l.json", 2, "is the nearest");
  expect_error("plan @m --preset compactifai-88 -o @l.json", 2, "MB, float16");
  expect_error("plan @m --preset compactifai-93 -o @l.json", 2, "MB, dense block layers in int4");
  expect_error("plan @m --keep 0.8 --protect mlp.donw_proj -o @l.json", 2,
               "[protect] no dense layer matches");
  expect_error("plan @m --keep 0.1 -o @l.json", 2, "the least that can be kept");
  expect_error("plan @m -o @l.json", 2, "one of --keep, --size, --speedup and --preset");
  expect_error("plan @m --size 3XB -o @l.json", 2, "120MB");
  expect_error("plan @m --keep 0.8 --floor 0.2 -o @l.json", 2, "by a profile");
  expect_error("plan @text --keep 0.8 -o @l.json", 2, "model folder");
  expect_error("plan @m --profile @m/config.json --keep 0.8 -o @l.json", 3, "version");
  EXPECT_EQ(run("plan @m --keep 0.8 -o @l.json --tflops 1").code, 0);
  expect_error("plan @m --keep 0.8 -o @l.json", 2, "(or force)");
  test::write_file(tmp / "other", "");
  test::write_model(test::make_tiny_model(2, 5), tmp / "m5");
  expect_error("compress @m5 --plan @l.json -o @c", 3, "another model");
  expect_error("compress @m --plan @l.json --keep 0.8 -o @c", 2, "several");
  expect_error("compress @m --plan @l.json --gauge full -o @c", 2, "--gauge");
  expect_error("compress @m --plan @l.json --method fisher -o @c", 2, "(m, 1) x (1, n)");
  expect_error(profile + "--bonds 4 --blocks 7", 2, "[blocks]");
  test::write_file(tmp / "text", "too short");
  expect_error(profile + "--bonds 4", 2, "at least one window");
  EXPECT_FALSE(fs::exists(tmp / "p.json"));
  expect_error(profile + "--method fisher --shape balanced", 2, "(m, 1) x (1, n)");
  EXPECT_FALSE(fs::exists(tmp / "p.json.statistics")) << "known before anything is collected";
  test::write_file(tmp / "p.svg", "mine");
  expect_error(profile + "--bonds 4", 2, "p.svg exists");
  fs::create_directory(tmp / "p.json.partial");
  expect_error(profile + "--bonds 4", 2, "p.svg was not written by schmidt");
  test::write_file(tmp / "p.svg", "<!-- made by schmidt -->");  // a kill before the profile
  test::write_file(tmp / "text", std::string(300, 'a'));
  const test::Ran done = run(profile + "--bonds 4 --blocks 0");
  EXPECT_EQ(done.code, 0) << done.err;
}

TEST_F(PlanVerbTest, ProfileAndCompressShareStatistics) {
  const std::string read =
      "--max-tokens 256 --context 64 --method fisher --statistics @s -q -o @p.json";
  const test::Ran profiled = run("profile @m --text @text " + read);
  EXPECT_EQ(profiled.code, 0) << profiled.err;
  const auto stamp = fs::last_write_time(tmp / "s/block.0.safetensors");
  const test::Ran compressed =
      run("compress @m --keep 0.8 --calibration @text --calibration-tokens 256 "
          "--calibration-context 64 --statistics @s -q -o @c");
  EXPECT_EQ(compressed.code, 0) << compressed.err;
  EXPECT_EQ(fs::last_write_time(tmp / "s/block.0.safetensors"), stamp);
}

}  // namespace
}  // namespace schmidt
