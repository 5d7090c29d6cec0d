#include "schmidt/tn/mpo_sum.h"

#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "schmidt/tn/gauge.h"

namespace schmidt::tn {
namespace {

TEST(MpoSum, IsTheSumOfItsMatricesAndOfItsParameters) {
  const std::vector<Mpo> terms = {
      Mpo({at::randn({1, 2, 3, 4}), at::randn({4, 5, 2, 1})}),
      Mpo({at::randn({1, 10, 1, 3}), at::randn({3, 1, 6, 1})}),
  };
  EXPECT_TRUE(at::equal(to_dense(terms), terms[0].to_dense() + terms[1].to_dense()));
  EXPECT_EQ(parameter_count(terms, false), 24 + 40 + 30 + 18);
  // A bond of dimension r has r * r numbers of freedom.
  EXPECT_EQ(parameter_count(terms, true), 24 + 40 + 30 + 18 - 4 * 4 - 3 * 3);
}

}  // namespace
}  // namespace schmidt::tn
