#include "schmidt/base/output_place.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt {
namespace {

namespace fs = std::filesystem;

class OutputPlaceTest : public ::testing::Test {
 protected:
  OutputPlaceTest() : root(fs::canonical(tmp.path())) {
    fs::create_directories(root / "models/a");
    test::write_file(root / "models/a/weights", "1");
    test::write_file(root / "text", "1");
  }

  std::string refusal(const fs::path& place, const fs::path& input) {
    try {
      check_apart({place}, {{"the model", input}});
    } catch (const c10::ValueError& e) {
      return e.what_without_backtrace();
    }
    return "";
  }

  test::TemporaryFolder tmp;
  fs::path root;
};

TEST_F(OutputPlaceTest, ResolvesDotsSlashesAndLinks) {
  EXPECT_EQ(resolved_place(root / "new"), root / "new");
  EXPECT_EQ(resolved_place(root / "new///"), root / "new");
  EXPECT_EQ(resolved_place(root / "models/a/../b"), root / "models/b");
  EXPECT_EQ(resolved_place(root / "models/a/."), root / "models/a");
  EXPECT_EQ(resolved_place("/"), "/");
  EXPECT_TRUE(resolved_place("relative").is_absolute());
  fs::create_symlink("second", root / "first");
  fs::create_symlink("models/new", root / "second");
  EXPECT_EQ(resolved_place(root / "first"), root / "models/new");
  EXPECT_EQ(resolved_place(root / "first/"), root / "models/new");
  fs::create_symlink("models", root / "third");
  EXPECT_EQ(resolved_place(root / "third/new"), root / "models/new");
  EXPECT_THROW(resolved_place(""), c10::ValueError);
  fs::create_symlink("loop", root / "loop");
  EXPECT_THROW(resolved_place(root / "loop"), SystemError);
}

TEST_F(OutputPlaceTest, APlaceIsNoInputAndHoldsNone) {
  EXPECT_NE(refusal(root / "models/a", root / "models/a/").find("is the model"), std::string::npos);
  EXPECT_NE(refusal(root / "models", root / "models/a").find("holds the model"), std::string::npos);
  EXPECT_NE(refusal("/", root / "models/a").find("holds the model"), std::string::npos);
  EXPECT_NE(refusal(root / "text", root / "text").find("is the model"), std::string::npos);
  EXPECT_EQ(refusal(root / "models/b", root / "models/a"), "");
  EXPECT_EQ(refusal(root / "models/a/inside", root / "models/a"), "");
  EXPECT_EQ(refusal(root / "models/a", root / "missing"), "") << "whoever reads it says so";
}

TEST_F(OutputPlaceTest, SeesThroughLinks) {
  fs::create_directory_symlink(root / "models", root / "link");
  EXPECT_NE(refusal(root / "link/a", root / "models/a"), "");
  EXPECT_NE(refusal(root / "models/a", root / "link/a"), "");
  // A model whose weights are links into the folder that would be replaced.
  fs::create_directory(root / "linked");
  fs::create_symlink("../models/a/weights", root / "linked/weights");
  EXPECT_NE(refusal(root / "models/a", root / "linked").find("a part of the model"),
            std::string::npos);
  EXPECT_EQ(refusal(root / "models/b", root / "linked"), "");
  EXPECT_EQ(refusal(root / "models/a", root / "models"), "") << "a place in what is read";
}

TEST_F(OutputPlaceTest, PlacesAreApartFromEachOther) {
  EXPECT_NO_THROW(check_apart_from_each_other({root / "out", root / "out.partial"}));
  EXPECT_THROW(check_apart_from_each_other({root / "out", root / "out"}), c10::ValueError);
  EXPECT_THROW(check_apart_from_each_other({root / "out/in", root / "out"}), c10::ValueError);
  EXPECT_THROW(check_apart_from_each_other({root / "out", root / "out/in"}), c10::ValueError);
}

TEST(IsNumbered, KnowsItsNames) {
  EXPECT_TRUE(is_numbered("points.12", "points."));
  EXPECT_TRUE(is_numbered("block-3.safetensors", "block-", ".safetensors"));
  EXPECT_FALSE(is_numbered("points.", "points."));
  EXPECT_FALSE(is_numbered("points.1a", "points."));
  EXPECT_FALSE(is_numbered("block-.safetensors", "block-", ".safetensors"));
}

}  // namespace
}  // namespace schmidt
