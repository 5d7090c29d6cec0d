#include "schmidt/package/forms_text.h"

#include <gtest/gtest.h>

namespace schmidt::package {
namespace {

const model::NetworkShape kLowRank = {.out_dims = {48, 1}, .in_dims = {1, 24}, .bonds = {10}};
const model::NetworkShape kMpo = {.out_dims = {4, 3, 2}, .in_dims = {2, 3, 4}, .bonds = {6, 5}};

ModuleSummary module(std::string kind, std::string label, std::string stored_as,
                     int64_t dense_parameters, std::vector<model::NetworkShape> networks = {}) {
  ModuleSummary module;
  module.kind = std::move(kind);
  module.compressed = module.kind != "dense";
  module.label = std::move(label);
  module.stored_as = std::move(stored_as);
  module.dense_parameters = dense_parameters;
  module.networks = std::move(networks);
  return module;
}

TEST(FormsText, AFormIsNamedWithoutItsSizes) {
  const auto text = [](auto... of) { return form_text(module(of...)); };
  EXPECT_EQ(text("dense", "", "BF16", 1), "BF16");
  EXPECT_EQ(text("quantized", "int4, groups of 64", "int4, groups of 64", 1), "int4");
  EXPECT_EQ(text("quantized", "int8 symmetric, groups of 32", "", 1), "int8 symmetric");
  EXPECT_EQ(text("nf4", "NF4, blocks of 64, double quantization", "", 1), "NF4");
  EXPECT_EQ(text("factored", "rank 32 in int8", "", 1), "rank in int8");
  EXPECT_EQ(text("sum", "int3, groups of 64 + rank 17 in int8", "", 1), "int3 + rank in int8");
  EXPECT_EQ(text("own", "", "F32", 1), "own in F32");
  const std::vector<model::NetworkShape> both = {kLowRank, kMpo};
  EXPECT_EQ(form_text(module("mpo", "", "BF16", 1, {kLowRank})), "rank in BF16");
  EXPECT_EQ(form_text(module("mpo", "", "F32", 1, {kMpo})), "MPO in F32");
  EXPECT_EQ(form_text(module("sum", "", "F32", 1, both)), "rank + MPO in F32");
  EXPECT_EQ(form_text(module("sum", "int3, groups of 64", "", 1, {kLowRank})), "int3 + rank");
}

TEST(FormsText, SharesAreOfTheOriginalAndTheLargestComesFirst) {
  ModelSummary summary;
  summary.modules = {
      module("dense", "", "BF16", 200), module("quantized", "int5, groups of 64", "", 380),
      module("quantized", "int4, groups of 64", "", 300),
      module("quantized", "int4, groups of 32", "", 119), module("dense", "", "F32", 0)};
  summary.dense_parameters = 1000;
  EXPECT_EQ(forms_text(summary), "int4 41.9 %, int5 38.0 %, BF16 20.0 %");
  EXPECT_EQ(forms_text({}), "");
}

}  // namespace
}  // namespace schmidt::package
