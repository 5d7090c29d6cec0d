#include <filesystem>
#include <string>

#include <ATen/Context.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "schmidt/base/leave.h"

namespace {

/// LibTorch seeds its generator from the clock: a test that draws would see other
/// numbers in every run, and a failure could not be seen again.
class SeedEachTest : public testing::EmptyTestEventListener {
  void OnTestStart(const testing::TestInfo&) override { at::manual_seed(1); }
};

/// The filter that chooses what stands in the file `name`.cpp; empty where nothing does.
std::string tests_of(const std::string& name) {
  std::string filter;
  const testing::UnitTest& all = *testing::UnitTest::GetInstance();
  for (int s = 0; s < all.total_test_suite_count(); ++s) {
    const testing::TestSuite& suite = *all.GetTestSuite(s);
    for (int t = 0; t < suite.total_test_count(); ++t) {
      const testing::TestInfo& test = *suite.GetTestInfo(t);
      if (std::filesystem::path(test.file()).stem() != name) continue;
      filter += fmt::format("{}.{}:", suite.name(), test.name());
    }
  }
  return filter;
}

}  // namespace

// usage: test_FOLDER [FILE_test] [options of GoogleTest]
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc > 1) {
    const std::string filter = tests_of(argv[1]);
    if (filter.empty()) {
      fmt::print(stderr, "error: no tests of {}.cpp in this program\n", argv[1]);
      return 2;
    }
    GTEST_FLAG_SET(filter, filter);
  }
  testing::UnitTest::GetInstance()->listeners().Append(new SeedEachTest);
  schmidt::leave(RUN_ALL_TESTS());
}
