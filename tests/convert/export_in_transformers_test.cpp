#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/model.h"
#include "schmidt/pipeline/export_model.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

// What transformers makes of exports, with no code of the folder's.

namespace schmidt::convert {
namespace {

namespace fs = std::filesystem;

TEST(ExportInTransformers, ADenseExportHasTheLogitsOfTheCompressedModel) {
  const test::TemporaryFolder tmp;
  const io::Checkpoint compressed =
      io::Checkpoint::open(test::write_model(test::make_compressed_model().compressed, tmp / "c"));
  const torch::Tensor ids = torch::tensor({{5, 9, 200, 7, 31}});
  const torch::Tensor ours = model::Model::load(compressed).forward(ids)[0];
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const bool wide = dtype == torch::kFloat32;
    const fs::path out = tmp / (wide ? "f32" : "bf16");
    pipeline::export_model(compressed, {.target = pipeline::ExportTarget::kDense, .dtype = dtype},
                           {.out = out}, {});
    for (const auto& entry : fs::directory_iterator(out)) {
      EXPECT_NE(entry.path().extension(), ".py");
    }
    const std::string logits = (tmp / "logits.safetensors").string();
    ASSERT_TRUE(test::run_python(
        tmp, fmt::format("huggingface_logits.py {} 5,9,200,7,31 {}", out.string(), logits)));
    const torch::Tensor theirs = io::load_safetensors(logits).at("logits");
    EXPECT_LT((ours - theirs).abs().max().item<double>(), wide ? 1e-5 : 5e-2);
    const torch::Tensor same =
        model::Model::load(io::Checkpoint::open(out)).forward(ids)[0].to(torch::kFloat32);
    EXPECT_LT((same - theirs).abs().max().item<double>(), 1e-5);
  }
}

}  // namespace
}  // namespace schmidt::convert
