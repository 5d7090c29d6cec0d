// Model folders as others leave them: quantized.
#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <torch/torch.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ForeignModels : public ::testing::Test {
 protected:
  ForeignModels() {
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("line {} of a text\n", i * i);
    test::write_file(tmp / "text", text);
  }

  void write(const std::string& name, const test::TinyModel& tiny) const {
    test::write_model(tiny, tmp / name);
    test::write_byte_tokenizer(tmp / name);
  }

  // Every argument that begins with @ is a name in the temporary folder.
  int run(std::string arguments) {
    for (size_t at; (at = arguments.find('@')) != std::string::npos;) {
      arguments.replace(at, 1, tmp.path().string() + "/");
    }
    const int status =
        std::system(fmt::format("OMP_NUM_THREADS=1 {} {} >{} 2>{} </dev/null", SCHMIDT_PROGRAM,
                                arguments, (tmp / "stdout").string(), (tmp / "stderr").string())
                        .c_str());
    out = test::read_file(tmp / "stdout");
    err = test::read_file(tmp / "stderr");
    return WEXITSTATUS(status);
  }

  json run_json(const std::string& arguments) {
    EXPECT_EQ(run(arguments + " --json"), 0) << arguments << ": " << err;
    return json::parse(out, nullptr, false);
  }

  double perplexity(const std::string& name) {
    const json scores = run_json("eval @" + name + " --text @text --context 64");
    return scores["texts"][0]["perplexity"].get<double>();
  }

  json config_of(const std::string& name) const {
    return json::parse(test::read_file(tmp / name / "config.json"));
  }

  test::TemporaryFolder tmp;
  test::TinyModel model = test::make_tiny_model();
  std::string out, err;
};

TEST_F(ForeignModels, EveryVerbRefusesWhatIsNotRead) {
  write("m", model);
  model.config["quantization_config"] = {{"quant_method", "gptq"}, {"bits", 4}};
  write("q", model);
  for (const char* arguments :
       {"inspect @q", "compress @q --bond 4 -o @out", "compress @q --keep 0.7 -o @out",
        "eval @q --text @text --context 64", "eval @m --reference @q --text @text --context 64",
        "generate @q --prompt a", "chat @q", "bench @q", "plan @q --keep 0.5 -o @plan.json",
        "profile @q --text @text -o @p.json", "heal @q --data @text --kl 0 -o @out",
        "heal @m --teacher @q --data @text -o @out"}) {
    EXPECT_EQ(run(arguments), 3) << arguments << "\n" << err;
    EXPECT_EQ(out, "") << arguments;
    EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1) << arguments << "\n" << err;
    EXPECT_NE(err.find("FP8 with its scales, found GPTQ 4 bit"), std::string::npos) << err;
    EXPECT_FALSE(fs::exists(tmp / "out") || fs::exists(tmp / "out.partial")) << arguments;
  }
}

// An FP8 model is the model of its dequantized weights, for whoever reads it.
TEST_F(ForeignModels, Fp8IsReadWithItsScales) {
  constexpr int64_t kBlock = 16;  // 24 and 36 are no multiples
  test::TinyModel quantized = model;
  for (const auto& [name, weight] : model.tensors) {
    if (!name.ends_with("_proj.weight")) continue;
    const int64_t m = weight.size(0), n = weight.size(1);
    torch::Tensor scales = torch::empty({(m + kBlock - 1) / kBlock, (n + kBlock - 1) / kBlock});
    torch::Tensor values = torch::empty({m, n}), plain = torch::empty({m, n});
    for (int64_t i = 0; i < m; i += kBlock) {
      for (int64_t j = 0; j < n; j += kBlock) {
        const auto part = [&](const torch::Tensor& t) {
          return t.slice(0, i, std::min(i + kBlock, m)).slice(1, j, std::min(j + kBlock, n));
        };
        const float scale = part(weight).abs().max().item<float>() / 448;
        scales[i / kBlock][j / kBlock] = scale;
        const torch::Tensor rounded = (part(weight) / scale).to(torch::kFloat8_e4m3fn);
        part(values).copy_(rounded);
        part(plain).copy_(rounded.to(torch::kFloat32) * scale);
      }
    }
    quantized.tensors[name] = values.to(torch::kFloat8_e4m3fn);
    quantized.tensors[name + "_scale_inv"] = scales;
    model.tensors[name] = plain;
  }
  quantized.config["quantization_config"] = {
      {"quant_method", "fp8"}, {"fmt", "e4m3"}, {"weight_block_size", {kBlock, kBlock}}};
  write("plain", model);
  write("fp8", quantized);

  const double expected = perplexity("plain");
  EXPECT_EQ(perplexity("fp8"), expected);
  const json scores = run_json("eval @plain --reference @fp8 --text @text --context 64");
  EXPECT_EQ(scores["texts"][0]["kl"]["max"], 0.0);
  json of_fp8 = run_json("inspect @fp8"), of_plain = run_json("inspect @plain");
  EXPECT_EQ(of_fp8["parameters"], of_plain["parameters"]);
  const int64_t bytes = 36 * 24 + 3 * 2 * 4;  // of values and scales
  for (const json& module : of_fp8["modules"]) {
    if (module["name"] != "model.layers.1.mlp.up_proj") continue;
    EXPECT_EQ(module["stored_as"], "F8_E4M3");
    EXPECT_EQ(module["bytes"], bytes);
  }
  EXPECT_LT(of_fp8["bytes"].get<int64_t>(), of_plain["bytes"].get<int64_t>());

  for (const char* how : {"--bond 4",
                          "--keep 0.8 --calibration @text --calibration-tokens 512 "
                          "--calibration-context 64"}) {
    for (const char* name : {"plain", "fp8"}) {
      ASSERT_EQ(run(fmt::format("compress @{0} {1} -o @{0}.out --force -q", name, how)), 0) << err;
    }
    EXPECT_EQ(test::read_file(tmp / "fp8.out/model.safetensors"),
              test::read_file(tmp / "plain.out/model.safetensors"))
        << how;
    EXPECT_FALSE(config_of("fp8.out").contains("quantization_config"));
    EXPECT_EQ(config_of("fp8.out"), config_of("plain.out"));
  }

  // Other scales make another model, also for work that goes on.
  quantized.tensors.at("model.layers.1.mlp.up_proj.weight_scale_inv").mul_(2);
  write("fp8", quantized);
  EXPECT_NE(perplexity("fp8"), expected);
}

}  // namespace
}  // namespace schmidt
