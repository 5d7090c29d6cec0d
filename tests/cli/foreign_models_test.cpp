// Model folders as others leave them: quantized, with two heads, held together by links.
#include <algorithm>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "schmidt/io/checkpoint.h"

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";
constexpr const char* kSecret = "the words of a secret";

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

  int run(const std::string& arguments) {
    const test::Ran ran = test::run_in_shell(tmp, "$S " + arguments);
    out = ran.out;
    err = ran.err;
    return ran.code;
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

TEST_F(ForeignModels, AStoredHeadThatDiffersIsUsedByEveryVerb) {
  test::TinyModel untied = model;
  untied.tensors[kHead] = model.tensors.at(kEmbedding).roll(1, 0);
  test::TinyModel both = untied;
  untied.config["tie_word_embeddings"] = false;
  write("untied", untied);
  write("both", both);

  const double expected = perplexity("untied");
  EXPECT_EQ(perplexity("both"), expected);
  EXPECT_NE(err.find("note: "), std::string::npos) << err;
  EXPECT_NE(err.find("the stored head is used, untied"), std::string::npos) << err;
  EXPECT_EQ(run_json("inspect @both")["parameters"], run_json("inspect @untied")["parameters"]);
  ASSERT_EQ(run("inspect @both -q"), 0);
  EXPECT_EQ(err, "");
  EXPECT_EQ(out.find("tied embedding"), std::string::npos);
  ASSERT_EQ(run("eval @both --reference @both --text @text --context 64"), 0);
  EXPECT_EQ(err.find("note: "), err.rfind("note: ")) << err;  // said once
  for (const char* name : {"both", "untied"}) {
    ASSERT_EQ(run(fmt::format("plan @{0} --keep 0.9 -o @{0}.json", name)), 0) << err;
  }
  json plans[2] = {json::parse(test::read_file(tmp / "both.json")),
                   json::parse(test::read_file(tmp / "untied.json"))};
  EXPECT_EQ(plans[0]["layers"], plans[1]["layers"]);

  for (const char* name : {"both", "untied"}) {
    ASSERT_EQ(run(fmt::format("compress @{0} --keep 0.8 --calibration @text --calibration-tokens "
                              "512 --calibration-context 64 -o @{0}.out",
                              name)),
              0)
        << err;
  }
  EXPECT_EQ(test::read_file(tmp / "both.out/model.safetensors"),
            test::read_file(tmp / "untied.out/model.safetensors"));
  EXPECT_EQ(config_of("both.out")["tie_word_embeddings"], false);

  ASSERT_EQ(run("heal @both --kl 0 --cross-entropy 1 --data @text --held-out 0 --train norms "
                "--context 64 --batch 2 --tokens 256 -o @healed"),
            0)
      << err;
  EXPECT_EQ(config_of("healed")["tie_word_embeddings"], false);
  const auto healed = io::Checkpoint::open(tmp / "healed");
  EXPECT_TRUE(torch::equal(healed.load(kHead), both.tensors.at(kHead)));
  EXPECT_TRUE(torch::equal(healed.load(kEmbedding), both.tensors.at(kEmbedding)));
}

TEST_F(ForeignModels, AStoredHeadThatIsTheEmbeddingIsHeldOnce) {
  write("tied", model);
  model.tensors[kHead] = model.tensors.at(kEmbedding).clone();
  write("twice", model);
  const double expected = perplexity("tied");
  EXPECT_EQ(perplexity("twice"), expected);
  EXPECT_NE(err.find("lm_head.weight equals the tied embedding"), std::string::npos) << err;
  for (const char* name : {"tied", "twice"}) {
    ASSERT_EQ(run(fmt::format("compress @{0} --bond 4 -o @{0}.out -q", name)), 0) << err;
  }
  EXPECT_EQ(test::read_file(tmp / "twice.out/model.safetensors"),
            test::read_file(tmp / "tied.out/model.safetensors"));
  EXPECT_EQ(config_of("twice.out"), config_of("tied.out"));
}

TEST_F(ForeignModels, AnUntiedModelWithoutAHead) {
  model.config["tie_word_embeddings"] = false;
  write("m", model);
  for (const char* verb : {"eval @m --text @text --context 64", "generate @m --prompt a",
                           "compress @m --bond 4 -o @out"}) {
    EXPECT_EQ(run(verb), 3) << verb;
    EXPECT_NE(err.find("lm_head.weight: expected a tensor [264, 24], since tie_word_embeddings"),
              std::string::npos)
        << err;
  }
}

TEST_F(ForeignModels, NothingBehindALinkOutOfTheFolderIsPublished) {
  write("m", model);
  test::write_file(tmp / "secret", kSecret);
  test::write_file(tmp / "secret.json", json{{"password", kSecret}}.dump());
  const auto holds_secret = [&] {
    return std::ranges::any_of(fs::directory_iterator(tmp / "out"), [](const auto& entry) {
      return test::read_file(entry.path()).find(kSecret) != std::string::npos;
    });
  };
  for (const auto& [link, target] : {std::pair{"chat_template.jinja", "secret"},
                                     std::pair{"generation_config.json", "secret.json"},
                                     std::pair{"special_tokens_map.json", "secret.json"},
                                     std::pair{"added_tokens.json", "secret.json"}}) {
    for (const fs::path& path : {tmp / target, fs::path("..") / target}) {
      fs::create_symlink(path, tmp / "m" / link);
      const int code = run("compress @m --bond 4 -o @out --force");
      EXPECT_EQ(code, 0) << link << ": " << err;
      EXPECT_NE(err.find(std::string(link) + " lead out of the folder"), std::string::npos) << err;
      EXPECT_FALSE(fs::exists(tmp / "out" / link));
      EXPECT_TRUE(fs::exists(tmp / "out/tokenizer.json"));
      EXPECT_FALSE(holds_secret()) << link;
      fs::remove(tmp / "m" / link);
    }
  }
}

TEST_F(ForeignModels, AFolderOfLinksIsReadAndItsTokenizerStaysWhereItIs) {
  write("m", model);
  fs::create_directory(tmp / "links");
  for (const auto& entry : fs::directory_iterator(tmp / "m")) {
    fs::create_symlink(entry.path(), tmp / "links" / entry.path().filename());
  }
  const double expected = perplexity("m");
  EXPECT_EQ(err, "");
  EXPECT_EQ(perplexity("links"), expected);
  ASSERT_EQ(run("compress @links --bond 4 -o @out"), 0) << err;
  EXPECT_NE(err.find("lead out of the folder"), std::string::npos) << err;
  EXPECT_FALSE(fs::exists(tmp / "out/tokenizer.json"));
  EXPECT_FALSE(fs::exists(tmp / "out/tokenizer_config.json"));
  EXPECT_FALSE(fs::is_symlink(tmp / "out/model.safetensors"));
}

TEST_F(ForeignModels, TheCacheOfHuggingFaceIsCopiedWithItsTokenizer) {
  const fs::path cached = tmp / "models--a--b";
  const fs::path snapshot = cached / "snapshots/0123abcd";
  fs::create_directories(cached / "blobs");
  fs::create_directories(snapshot);
  write("m", model);
  for (const auto& entry : fs::directory_iterator(tmp / "m")) {
    const std::string name = entry.path().filename().string();
    fs::copy_file(entry.path(), cached / "blobs" / ("hash-" + name));
    fs::create_symlink("../../blobs/hash-" + name, snapshot / name);
  }
  ASSERT_EQ(run("compress @models--a--b/snapshots/0123abcd --bond 4 -o @out"), 0) << err;
  EXPECT_EQ(err.find("note:"), std::string::npos) << err;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_EQ(test::read_file(tmp / "out" / name), test::read_file(tmp / "m" / name));
    EXPECT_FALSE(fs::is_symlink(tmp / "out" / name));
  }
}

}  // namespace
}  // namespace schmidt
