#include <gtest/gtest.h>

#include "schmidt/io/safetensors.h"

#include "tests/support/support.h"

// Files of the reference implementation (Python's safetensors).

namespace schmidt::io {
namespace {

using test::oracle_dir;
using test::read_file;

// Reading and writing again gives the same bytes: each value was read right, and
// whoever reads the reference's files reads ours.
TEST(SafetensorsOracle, WritesTheBytesOfTheReference) {
  test::TemporaryFolder tmp;
  for (const char* name : {"all_dtypes.safetensors", "nothing.safetensors"}) {
    const auto path = oracle_dir() / "io" / name;
    const std::string reference = read_file(path);
    const SafetensorsHeader header = parse_safetensors(reference, path);
    const auto loaded = load_safetensors(path);
    save_safetensors(tmp / name, {loaded.begin(), loaded.end()}, header.metadata);
    EXPECT_EQ(read_file(tmp / name), reference) << name;
  }
}

TEST(SafetensorsOracle, ReadsEveryDtype) {
  const auto path = oracle_dir() / "io" / "all_dtypes.safetensors";
  const auto loaded = load_safetensors(path);
  EXPECT_EQ(loaded.size(), 20U);
  EXPECT_EQ(loaded.at("scalar").item<float>(), -1.5F);
  EXPECT_EQ(loaded.at("empty").sizes(), (std::vector<int64_t>{0, 7}));
  EXPECT_EQ(loaded.at("bool").sizes(), (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(loaded.at("bool").sum().item<int64_t>(), 2);
  EXPECT_EQ(loaded.at("bfloat16").scalar_type(), torch::kBFloat16);
  EXPECT_EQ(loaded.at("float8_e4m3fn").scalar_type(), torch::kFloat8_e4m3fn);
  EXPECT_EQ(loaded.at("a \"quoted\" name: é\t")[3].item<int64_t>(), 3);
}

}  // namespace
}  // namespace schmidt::io
