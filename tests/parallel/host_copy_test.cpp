#include "schmidt/parallel/host_copy.h"

#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace schmidt::parallel {
namespace {

TEST(HostCopy, IsTheTensorWhereItLiesInOneRowOnTheCpu) {
  const torch::Tensor x = torch::rand({3, 4});
  const HostCopy copy(x);
  EXPECT_FALSE(copy.is_copy());
  EXPECT_EQ(copy.tensor().data_ptr(), x.data_ptr());
  EXPECT_FALSE(HostCopy(x.narrow(0, 1, 2)).is_copy()) << "rows of a matrix lie together";
}

TEST(HostCopy, BringsBackWhatBecameOfACopy) {
  const torch::Tensor x = torch::rand({3, 4});
  const torch::Tensor before = x.clone();
  const torch::Tensor columns = x.narrow(1, 1, 2).requires_grad_();
  const HostCopy copy(columns);
  ASSERT_TRUE(copy.is_copy());
  EXPECT_TRUE(copy.tensor().is_contiguous());
  EXPECT_TRUE(torch::equal(copy.tensor(), columns));
  copy.tensor().mul_(2);
  EXPECT_TRUE(torch::equal(x, before));
  copy.write_back();
  EXPECT_TRUE(torch::equal(x.narrow(1, 1, 2), before.narrow(1, 1, 2) * 2));
  EXPECT_TRUE(torch::equal(x.narrow(1, 0, 1), before.narrow(1, 0, 1)));
}

TEST(HostCopy, GoesToAGpuAndBack) {
  if (!at::hasCUDA()) GTEST_SKIP() << "absent: a GPU";
  const torch::Tensor x = torch::ones({8}, torch::kCUDA);
  const HostCopy copy(x);
  EXPECT_TRUE(copy.tensor().is_cpu());
  copy.tensor().add_(1);
  copy.write_back();
  EXPECT_EQ(x.sum().item<float>(), 16.0F);
}

}  // namespace
}  // namespace schmidt::parallel
