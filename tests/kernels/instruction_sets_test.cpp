#include "schmidt/kernels/instruction_sets.h"

#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

constexpr InstructionSet kAll[] = {InstructionSet::kPortable, InstructionSet::kAvx2,
                                   InstructionSet::kAvx512, InstructionSet::kAvx512Bf16};

TEST(InstructionSets, EachHoldsThoseBeforeIt) {
  EXPECT_TRUE(supported(InstructionSet::kPortable));
  for (size_t i = 1; i < std::size(kAll); ++i) {
    EXPECT_TRUE(supported(kAll[i - 1]) || !supported(kAll[i])) << name_of(kAll[i]);
  }
}

TEST(InstructionSets, TheFastestIsTheLastThatIsSupported) {
  Implementations<int> all;
  int widest = -1;
  for (int i = 0; i < 4; ++i) {
    all.push_back({kAll[i], i});
    if (supported(kAll[i])) widest = i;
  }
  EXPECT_EQ(*fastest(all), widest);
  EXPECT_EQ(*fastest(Implementations<int>{{InstructionSet::kPortable, 7}}), 7);
  EXPECT_EQ(fastest(Implementations<int>{}), nullptr);
}

}  // namespace
}  // namespace schmidt::kernels
