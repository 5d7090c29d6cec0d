#include "schmidt/kernels/instruction_sets.h"

#include <cstdlib>

#include <gtest/gtest.h>

namespace schmidt::kernels {
namespace {

using enum InstructionSet;
constexpr InstructionSet kAll[] = {kPortable,   kAvx2,       kAvx512, kAvx512Vnni,
                                   kAvx512Vbmi, kAvx512Bf16, kAmxBf16};

TEST(InstructionSets, EachHoldsWhatItBuildsOn) {
  struct Step {
    InstructionSet set, on;
  };
  EXPECT_TRUE(supported(kPortable));
  for (const auto& [set, on] :
       {Step{kAvx2, kPortable}, Step{kAvx512, kAvx2}, Step{kAvx512Vnni, kAvx512},
        Step{kAvx512Vbmi, kAvx512Vnni}, Step{kAvx512Bf16, kAvx512}, Step{kAmxBf16, kAvx512Bf16}}) {
    EXPECT_TRUE(supported(on) || !supported(set)) << name_of(set);
  }
}

TEST(InstructionSets, TheNamedOneHidesThoseAfterIt) {
  const char* const asked = std::getenv("SCHMIDT_INSTRUCTION_SET");
  if (asked == nullptr) GTEST_SKIP() << "none is named";
  bool after = false;
  for (const InstructionSet set : kAll) {
    EXPECT_FALSE(after && supported(set)) << name_of(set);
    after = after || name_of(set) == asked;
  }
  EXPECT_TRUE(after) << asked;
}

TEST(InstructionSets, TheFastestIsTheLastThatIsSupported) {
  Implementations<int> all;
  int widest = -1;
  for (const InstructionSet set : kAll) {
    all.push_back({set, static_cast<int>(set)});
    if (supported(set)) widest = static_cast<int>(set);
  }
  EXPECT_EQ(*fastest(all), widest);
  EXPECT_EQ(*fastest(Implementations<int>{{InstructionSet::kPortable, 7}}), 7);
  EXPECT_EQ(fastest(Implementations<int>{}), nullptr);
}

}  // namespace
}  // namespace schmidt::kernels
