#include "schmidt/package/summary.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/tn/gauge.h"

#include "tests/support/compressed_model.h"
#include "tests/support/support.h"

namespace schmidt::package {
namespace {

class SummaryTest : public testing::Test {
 protected:
  ModelSummary summary_of(const test::TinyModel& model) {
    return summarize(io::Checkpoint::open(test::write_model(model, tmp_ / "m")));
  }
  static const ModuleSummary& module(const ModelSummary& summary, const std::string& name) {
    for (const ModuleSummary& m : summary.modules) {
      if (m.name == name) return m;
    }
    throw std::out_of_range(name);
  }

  test::TemporaryFolder tmp_;
  test::CompressedModel models_ = test::make_compressed_model();
};

TEST_F(SummaryTest, CountsScalarsAsParametersAndPivotsAsBytes) {
  const ModelSummary summary = summary_of(models_.compressed);
  int64_t floats = 0, indices = 0, dense = 0;
  for (const auto& [name, tensor] : models_.compressed.tensors) {
    (tensor.is_floating_point() ? floats : indices) += tensor.numel();
  }
  for (const auto& [name, tensor] : models_.dense.tensors) dense += tensor.numel();
  EXPECT_EQ(summary.parameters, floats);
  EXPECT_EQ(summary.dense_parameters, dense);
  EXPECT_EQ(summary.bytes, static_cast<uint64_t>(4 * (floats + indices)));
  EXPECT_GT(indices, 0);
}

TEST_F(SummaryTest, CompressedLayersAgainstTheirDenseOnes) {
  const ModelSummary summary = summary_of(models_.compressed);
  const int64_t qkv = tn::gauge_fixed_parameter_count(tn::low_rank_shape(48, 24), {10}) + 48;
  const int64_t out = tn::gauge_fixed_parameter_count({{4, 3, 2}, {2, 3, 4}}, {6, 5}) + 24;
  const int64_t gate_up = (9 * 4 + 8 * 6) * 7 + 72;
  const int64_t key = tn::gauge_fixed_parameter_count(tn::low_rank_shape(12, 24), {5}) + 12;
  const int64_t sum_gate_up = (9 * 4 + 8 * 6) * 4 + 6 * (72 + 24) - 36 + 72;
  const int64_t sum_down = 6 * (24 + 36) - 36 + (36 + 24) * 3 - 9 + 24;
  EXPECT_EQ(module(summary, test::kFusedQkv).parameters, qkv);
  EXPECT_EQ(module(summary, test::kFixedOut).parameters, out);
  EXPECT_EQ(module(summary, test::kSumDown).parameters, sum_down);
  EXPECT_EQ(module(summary, test::kSumGateUp).parameters, sum_gate_up);
  EXPECT_EQ(summary.tensorized_parameters, qkv + out + gate_up + key + sum_gate_up + sum_down);
  EXPECT_EQ(summary.tensorized_dense_parameters,
            48 * 25 + 24 * 25 + 72 * 25 + 12 * 25 + 72 * 25 + 24 * 37);
}

TEST_F(SummaryTest, DescribesEveryForm) {
  const ModelSummary summary = summary_of(models_.compressed);
  const ModuleSummary& qkv = module(summary, test::kFusedQkv);
  EXPECT_EQ(qkv.kind, "mpo");
  EXPECT_EQ(qkv.shape, (std::vector<int64_t>{48, 24}));
  EXPECT_TRUE(qkv.networks.at(0).fixed_gauge);
  EXPECT_EQ(qkv.dense_parameters, 48 * 24 + 48);
  EXPECT_EQ(qkv.stored_as, "F32");
  EXPECT_FALSE(module(summary, test::kFusedGateUp).networks.at(0).fixed_gauge);

  const ModuleSummary& sum = module(summary, test::kSumGateUp);
  EXPECT_EQ(sum.kind, "sum");
  EXPECT_EQ(sum.shape, (std::vector<int64_t>{72, 24}));
  EXPECT_EQ(model::sites_text(sum.networks), "9 x 8; 4 x 6 + 72 x 1; 1 x 24");
  EXPECT_EQ(model::bonds_text(sum.networks), "4 + 6");
  EXPECT_EQ(model::bonds_text(module(summary, test::kFixedOut).networks), "6 5");
  EXPECT_EQ(model::sites_text(module(summary, "model.norm").networks), "");
}

TEST_F(SummaryTest, ModulesStandInTheOrderOfTheComputation) {
  std::vector<std::string> names;
  for (const ModuleSummary& m : summary_of(models_.compressed).modules) {
    if (m.name.starts_with("model.layers.0.")) names.push_back(m.name.substr(15));
  }
  EXPECT_EQ(names, (std::vector<std::string>{"input_layernorm", "self_attn.qkv_proj",
                                             "self_attn.o_proj", "post_attention_layernorm",
                                             "mlp.gate_up_proj", "mlp.down_proj"}));
}

TEST_F(SummaryTest, RefusesFormsThatSayTooLittle) {
  models_.form(test::kSumDown)["terms"] = nlohmann::json::array();
  EXPECT_THROW(summary_of(models_.compressed), FormatError);
  models_.form(test::kSumDown) = {{"kind", "mpo"}};
  EXPECT_THROW(summary_of(models_.compressed), FormatError);
  models_.form(test::kSumDown) = {{"kind", "dense"}};
  EXPECT_NO_THROW(summary_of(models_.compressed));
}

TEST_F(SummaryTest, CountsATiedEmbeddingOnce) {
  const test::TinyModel model = test::make_tiny_model();
  const ModelSummary summary = summary_of(model);
  int64_t expected = 0;
  for (const auto& [name, tensor] : model.tensors) expected += tensor.numel();
  EXPECT_EQ(summary.parameters, expected);
  EXPECT_EQ(summary.dense_parameters, expected);
  EXPECT_EQ(summary.bytes, static_cast<uint64_t>(4 * expected));
  EXPECT_EQ(summary.modules.front().kind, "embedding");
  EXPECT_EQ(summary.modules.back().name, "model.norm");
}

}  // namespace
}  // namespace schmidt::package
