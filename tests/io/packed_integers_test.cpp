#include "schmidt/io/packed_integers.h"

#include <array>
#include <string_view>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/io/expect_error.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

/// A folder of compressed-tensors with one matrix in it, of which only the headers count.
class PackedIntegers : public ::testing::Test {
 protected:
  json described(const std::vector<PackedScheme>& schemes) {
    json config = json::object();
    describe_packed(config, tensors, schemes, "folder");
    return config["compression_config"]["layers"][name];
  }

  void say_shape(int64_t rows, int64_t columns) {
    said = {rows, columns};
    tensors[name + ".weight_shape"].bytes = {reinterpret_cast<const char*>(said.data()),
                                             sizeof said};
  }

  const std::string name = "model.layers.0.mlp.down_proj";
  std::array<int64_t, 2> said{};
  std::map<std::string, HfTensor> tensors = {{name + ".weight_packed", {nullptr, {64, 16}}}};
};

TEST_F(PackedIntegers, TheClosestTargetCounts) {
  const PackedScheme of_class{4, 32, false, {"Linear"}};
  const PackedScheme by_expression{8, 0, true, {"re:.*down_proj"}};
  const PackedScheme by_another{2, 0, true, {"re:.*proj", "re:.*nothing"}};
  const PackedScheme by_name{4, 16, true, {"lm_head", name}};
  EXPECT_EQ(described({of_class})["bits"], 4);
  const json eight = described({of_class, by_another, by_expression});
  EXPECT_EQ(eight["bits"], 8);
  EXPECT_EQ(eight["shape"], json({64, 64}));
  EXPECT_EQ(described({by_expression, of_class})["bits"], 8);
  EXPECT_EQ(described({of_class, by_expression, by_name})["group"], 16);
}

TEST_F(PackedIntegers, TheLastWordOfARowMayHaveRoom) {
  tensors[name + ".weight_packed"].shape = {64, 13};
  const PackedScheme rows{4, 0, true, {"Linear"}};
  EXPECT_EQ(described({rows})["group"], 104) << "where nothing says it";
  say_shape(64, 100);
  EXPECT_EQ(described({rows})["group"], 100);
  EXPECT_EQ(described({rows})["shape"], json({64, 100}));
  for (const int64_t columns : {0, 96, 105}) {
    say_shape(64, columns);
    test::expect_error<FormatError>([&] { described({rows}); }, "weight_shape: expected columns");
  }
}

TEST_F(PackedIntegers, AnExpressionThatIsNotReadIsQuoted) {
  test::expect_error<FormatError>(
      [&] {
        described({{4, 0, true, {"re:.*(?<!o)_proj"}}});
      },
      "\"re:.*(?<!o)_proj\"");
  test::expect_error<FormatError>(
      [&] {
        described({{4, 0, true, {"lm_head"}}});
      },
      "expected a group of quantization_config");
}

}  // namespace
}  // namespace schmidt::io
