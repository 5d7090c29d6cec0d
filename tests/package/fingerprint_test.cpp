#include "schmidt/package/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::package {
namespace {

TEST(Fingerprint, FollowsTheModelNotItsPlace) {
  const test::TemporaryFolder tmp;
  const auto checkpoint =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"));
  const auto copy = io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "copy"));
  const auto other =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 7), tmp / "other"));
  EXPECT_EQ(fingerprint(checkpoint), fingerprint(copy));
  EXPECT_NE(fingerprint(checkpoint), fingerprint(other));
  auto one_matrix = test::make_tiny_model();  // as after training of an adapter
  one_matrix.tensors["model.layers.1.mlp.up_proj.weight"] *= 1.01;
  const auto tuned = io::Checkpoint::open(test::write_model(one_matrix, tmp / "tuned"));
  EXPECT_NE(fingerprint(checkpoint), fingerprint(tuned));
}

TEST(Fingerprint, IsTheHashItNames) {
  // The published FNV-1a value of "a" is af63dc4c8601ec8c; the separator byte ff follows.
  const uint64_t with_separator = (0xaf63dc4c8601ec8cULL ^ 0xff) * 0x100000001b3ULL;
  EXPECT_EQ(Fingerprint().add("a").hex(), fmt::format("{:016x}", with_separator));
}

}  // namespace
}  // namespace schmidt::package
