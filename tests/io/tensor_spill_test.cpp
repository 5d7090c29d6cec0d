#include "schmidt/io/tensor_spill.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::io {
namespace {

TEST(TensorSpill, GivesBackWhatWasWritten) {
  test::TemporaryFolder tmp;
  const torch::Tensor a = torch::randn({3, 5}).to(torch::kBFloat16);
  const torch::Tensor b = torch::randn({5, 3}).to(torch::kBFloat16).t();  // not contiguous
  {
    TensorSpill spill(tmp / "spill", 4, {3, 5}, torch::kBFloat16);
    spill.write(3, a);
    spill.write(0, b);
    spill.sync();
  }
  const TensorSpill again(tmp / "spill", 4, {3, 5}, torch::kBFloat16);
  EXPECT_TRUE(torch::equal(again.read(3), a));
  EXPECT_TRUE(torch::equal(again.read(0), b));
}

TEST(TensorSpill, RefusesWhatDoesNotFit) {
  test::TemporaryFolder tmp;
  TensorSpill spill(tmp / "spill", 2, {3}, torch::kFloat32);
  EXPECT_THROW(spill.write(2, torch::zeros({3})), c10::ValueError);
  EXPECT_THROW(spill.write(-1, torch::zeros({3})), c10::ValueError);
  EXPECT_THROW(spill.write(0, torch::zeros({4})), c10::ValueError);
  EXPECT_THROW(spill.write(0, torch::zeros({3}, torch::kFloat64)), c10::ValueError);
  EXPECT_THROW(TensorSpill(tmp / "no/such/folder", 1, {1}, torch::kFloat32), SystemError);
}

TEST(TensorSpill, AFullDiskIsSaidAtOnce) {
  EXPECT_THROW(TensorSpill("/dev/full", 1, {1 << 20}, torch::kFloat32), SystemError);
}

}  // namespace
}  // namespace schmidt::io
