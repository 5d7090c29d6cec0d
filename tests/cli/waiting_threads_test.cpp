#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/support/support.h"

namespace schmidt {
namespace {

std::string what_openmp_reads(const std::string& variables) {
  const test::TemporaryFolder tmp;
  const test::Ran ran =
      test::run_in_shell(tmp, "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_DISPLAY_ENV=verbose " +
                                  variables + " $S --version");
  EXPECT_EQ(ran.code, 0);
  EXPECT_NE(ran.out.find("schmidt "), std::string::npos);
  return ran.err;
}

TEST(WaitingThreads, SpinBrieflyUnlessTheUserSaysHow) {
  const std::string found = what_openmp_reads("");
  if (found.find("GOMP_") == std::string::npos) GTEST_SKIP() << "another OpenMP than libgomp";
  EXPECT_NE(found.find("GOMP_SPINCOUNT = '1000'"), std::string::npos) << found;
  EXPECT_NE(what_openmp_reads("GOMP_SPINCOUNT=77").find("GOMP_SPINCOUNT = '77'"),
            std::string::npos);
  EXPECT_NE(what_openmp_reads("OMP_WAIT_POLICY=active").find("OMP_WAIT_POLICY = 'ACTIVE'"),
            std::string::npos);
}

}  // namespace
}  // namespace schmidt
