#include "schmidt/serve/model_names.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace schmidt::serve {
namespace {

using Names = std::vector<std::string>;

TEST(ModelNames, AreThoseOfFoldersAndFiles) {
  EXPECT_EQ(model_names({"models/original", "/else/small/", "q4.gguf", "a/../b.v2"}),
            (Names{"original", "small", "q4", "b.v2"}));
  EXPECT_EQ(model_names({"/"}), Names{"model"});
}

TEST(ModelNames, FoldersAboveTellEqualNamesApart) {
  EXPECT_EQ(model_names({"/m/a/small", "/m/b/small", "/m/other"}),
            (Names{"a/small", "b/small", "other"}));
  EXPECT_EQ(model_names({"/m/x/a/small", "/m/y/a/small/", "/m/y/b/small"}),
            (Names{"x/a/small", "y/a/small", "b/small"}));
  EXPECT_EQ(model_names({"/small", "/m/small"}), (Names{"small", "m/small"}));
  // A file beside a folder of its name.
  EXPECT_EQ(model_names({"/m/small.gguf", "/m/small"}), (Names{"small.gguf", "small"}));
}

TEST(ModelNames, ArePrintable) { EXPECT_EQ(model_names({"/m/caf\xE9"}), Names{"caf\\xE9"}); }

TEST(ModelNames, APathTwiceIsRefused) {
  const test::TemporaryFolder tmp;
  std::filesystem::create_directories(tmp / "small");
  std::filesystem::create_directory_symlink(tmp / "small", tmp / "link");
  EXPECT_THROW(model_names({tmp / "small", tmp / "small"}), c10::ValueError);
  EXPECT_THROW(model_names({tmp / "small", tmp / "x/../small/"}), c10::ValueError);
  EXPECT_THROW(model_names({tmp / "small", tmp / "link"}), c10::ValueError);
  EXPECT_EQ(model_names({tmp / "link"}), Names{"link"});
}

}  // namespace
}  // namespace schmidt::serve
