#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

// Paths that the system does not let through end every verb with one line and exit code 2.

namespace schmidt {
namespace {

namespace fs = std::filesystem;

class RefusedPath : public ::testing::Test {
 protected:
  RefusedPath() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    model = (tmp / "m").string();
    test::write_file(tmp / "text", std::string(3000, 'a'));
    text = (tmp / "text").string();
    fs::create_symlink("loop", tmp / "loop");
  }

  // `user` stands before the program, to run it as someone else.
  void expect_refused(const std::string& arguments, const std::string& reason,
                      const std::string& user = "") {
    const auto [code, out, said] = test::run_in_shell(tmp, user + "$S " + arguments);
    EXPECT_EQ(code, 2) << arguments << "\n" << said;
    EXPECT_TRUE(said.starts_with("error: cannot ")) << arguments << "\n" << said;
    EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << arguments << "\n" << said;
    EXPECT_NE(said.find(reason), std::string::npos) << arguments << "\n" << said;
  }

  // Every place of every verb that takes a path, with this path in it.
  std::vector<std::string> commands(const std::string& path) const {
    const std::string o = (tmp / "o").string();
    return {
        "inspect " + path,
        fmt::format("compress {} --bond 3 -o {}", path, o),
        fmt::format("compress {} --bond 3 -q -o {}", model, path),
        fmt::format("compress {} --bond 3 -q -o {} --force", model, path),
        fmt::format("compress {} --keep 0.8 -q --calibration {} -o {}", model, path, o),
        fmt::format("compress {} --keep 0.8 -q --calibration {} --calibration-tokens 256 "
                    "--calibration-context 64 --statistics {} -o {}",
                    model, text, path, o),
        fmt::format("compress {} --plan {} -q -o {}", model, path, o),
        fmt::format("profile {} --text {} -q -o {}.json", path, text, o),
        fmt::format("profile {} --text {} -q -o {}.json", model, path, o),
        fmt::format("profile {} --text {} -q -o {}.json", model, text, path),
        fmt::format("profile {} --metric boolq --data {} -q -o {}.json", model, path, o),
        fmt::format("plan {} --keep 0.8 -o {}.json", path, o),
        fmt::format("plan {} --keep 0.8 -o {}.json", model, path),
        fmt::format("plan {} --keep 0.8 --profile {} -o {}.json", model, path, o),
        fmt::format("heal {} --kl 0 --cross-entropy 1 --data {} -q -o {}", path, text, o),
        fmt::format("heal {} --teacher {} --data {} -q -o {}", model, path, text, o),
        fmt::format("heal {} --teacher {} --data {} -q -o {}", model, model, path, o),
        fmt::format("heal {} --teacher {} --data {} --train dense --held-out 0 --tokens 1024 "
                    "--context 128 -q -o {}",
                    model, model, text, path),
        fmt::format("export {} --to dense -q -o {}", path, o),
        fmt::format("export {} --to dense -q -o {}", model, path),
        fmt::format("eval {} --text {}", path, text),
        fmt::format("eval {} --text {}", model, path),
        fmt::format("eval {} --reference {} --text {}", model, path, text),
        fmt::format("generate {} --prompt a", path),
        fmt::format("generate {} --prompt-file {}", model, path),
        "chat " + path,
        "tokenize " + path,
        fmt::format("tokenize {} --text {}", model, path),
        "detokenize " + path,
        fmt::format("bench {}", path),
    };
  }

  test::TemporaryFolder tmp;
  std::string model, text;
};

TEST_F(RefusedPath, ALoopOfLinks) {
  for (const std::string& command : commands((tmp / "loop" / "x").string())) {
    expect_refused(command, "Too many levels of symbolic links");
  }
}

TEST_F(RefusedPath, ANameTooLong) {
  const std::string path = (tmp / std::string(256, 'x')).string();
  expect_refused("inspect " + path, "File name too long");
  expect_refused(fmt::format("compress {} --bond 3 -q -o {}", model, path), "File name too long");
  expect_refused(fmt::format("plan {} --keep 0.8 -o {}", model, path), "File name too long");
}

TEST_F(RefusedPath, AFolderOfAnotherUser) {
  if (::getuid() != 0) GTEST_SKIP() << "only root can become another user";
  if (std::system("command -v setpriv >/dev/null") != 0) GTEST_SKIP() << "setpriv is absent";
  fs::create_directories(tmp / "home" / "m");
  fs::permissions(tmp / "home", fs::perms::owner_all);
  fs::permissions(tmp.path(), fs::perms::all);
  const std::string path = (tmp / "home" / "m").string();
  for (const std::string& command : {"inspect " + path, "tokenize " + path,
                                     fmt::format("compress {} --bond 3 -q -o {}", model, path),
                                     fmt::format("plan {} --keep 0.8 -o {}.json", model, path)}) {
    expect_refused(command, "Permission denied",
                   "setpriv --reuid=65534 --regid=65534 --clear-groups ");
  }
}

// A file where a folder is expected: nothing is there to be read, nothing can be made there.
TEST_F(RefusedPath, AFileWhereAFolderIsExpected) {
  const std::string below = text + "/x";
  expect_refused(fmt::format("compress {} --bond 3 -q -o {}", model, below), "Not a directory");
  expect_refused(fmt::format("plan {} --keep 0.8 -o {}.json", model, below), "Not a directory");
  expect_refused(fmt::format("eval {} --text {}", model, below), "Not a directory");
  expect_refused(fmt::format("profile {} --metric boolq --data {} -q -o {}.json", model, text,
                             (tmp / "o").string()),
                 "Not a directory");
}

}  // namespace
}  // namespace schmidt
