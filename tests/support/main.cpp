#include <ATen/Context.h>
#include <gtest/gtest.h>

namespace {

/// LibTorch seeds its generator from the clock: a test that draws would see other
/// numbers in every run, and a failure could not be seen again.
class SeedEachTest : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { at::manual_seed(1); }
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::UnitTest::GetInstance()->listeners().Append(new SeedEachTest);
  return RUN_ALL_TESTS();
}
