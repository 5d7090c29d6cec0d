// What becomes of results that standard output does not take, and what options say of numbers.
#include <gtest/gtest.h>

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

using test::Ran;

class OutputTest : public ::testing::Test {
 protected:
  OutputTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    test::write_file(tmp / "text", std::string(300, 'a') + "\n");
    test::write_file(tmp / "long", std::string(200'000, 'a') + "\n");
  }

  // Every verb that prints, as people and as programs read it.
  std::vector<std::string> commands() const {
    const std::string text = (tmp / "text").string();
    std::vector<std::string> plain = {
        "inspect " + model,
        fmt::format("eval {} --text {} --context 32 -q", model, text),
        fmt::format("generate {} --prompt a -n 4", model),
        fmt::format("chat {} -n 4 <{}", model, (tmp / "line").string()),
        fmt::format("tokenize {} --text {}", model, text),
        fmt::format("tokenize {} --text {}", model, (tmp / "long").string()),
        fmt::format("detokenize {} <{}", model, (tmp / "ids").string()),
        fmt::format("bench {} -p 4 -n 2 -r 1 -q", model),
        fmt::format("plan {} --keep 0.8 -o {} --force", model, (tmp / "plan.json").string()),
        fmt::format("compress {} --bond 3 --force -o {}", model, (tmp / "out").string()),
    };
    std::vector<std::string> all;
    for (const std::string& command : plain) {
      all.push_back(command);
      all.push_back(command + " --json");
    }
    all.insert(all.end(), {"--help", "generate --help", "--version"});
    return all;
  }

  void SetUp() override {
    test::write_file(tmp / "line", "hi\n");
    test::write_file(tmp / "ids", "100 101\n");
  }

  // Exit code 2 and one line that says so.
  void expect_refused(const std::string& command) {
    const Ran ran = test::run_in_shell(tmp, command);
    EXPECT_EQ(ran.code, 2) << command << "\n" << ran.err;
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << command << "\n" << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: cannot write to standard output")) << ran.err;
  }

  test::TemporaryFolder tmp;
  std::string model = (tmp / "m").string();
};

TEST_F(OutputTest, ResultsThatAFullDiskLosesAreAnError) {
  SCHMIDT_REQUIRE_PATH("/dev/full");
  for (const std::string& command : commands()) expect_refused("$S " + command + " >/dev/full");
}

TEST_F(OutputTest, ResultsForAClosedStreamAreAnError) {
  for (const std::string& command : commands()) expect_refused("$S " + command + " >&-");
}

TEST_F(OutputTest, NoFileOfAModelGetsTheNumberOfAClosedStream) {
  const std::string out = (tmp / "out").string();
  const Ran ran = test::run_in_shell(
      tmp, fmt::format("$S compress {} --bond 3 -o {} <&- >&- 2>&-", model, out));
  EXPECT_EQ(ran.code, 2);
  const Ran inspected = test::run_in_shell(tmp, "$S inspect " + out);
  EXPECT_EQ(inspected.code, 0) << inspected.err;
}

TEST_F(OutputTest, AReaderThatHasGoneEndsTheProgramQuietly) {
  // The reader is gone before anything is printed.
  for (const char* json : {"", "--json"}) {
    const std::string tokenize =
        fmt::format("tokenize {} --text {} {}", model, (tmp / "long").string(), json);
    const Ran killed =
        test::run_in_shell(tmp, fmt::format("(sleep 1; $S {}; echo $? >&2) | true", tokenize));
    EXPECT_EQ(killed.err, "141\n");
    const Ran ignoring = test::run_in_shell(
        tmp, fmt::format("trap '' PIPE; (sleep 1; $S {}; echo $? >&2) | true", tokenize));
    EXPECT_EQ(ignoring.err, "141\n");
  }
  const Ran live = test::run_in_shell(
      tmp,
      fmt::format("trap '' PIPE; (sleep 1; $S generate {} --prompt a -n 4; echo $? >&2) | true",
                  model));
  EXPECT_EQ(live.err, "141\n");
}

TEST_F(OutputTest, NumbersOutOfRangeAreRefusedInAShortLine) {
  const std::string text = (tmp / "text").string();
  for (const std::string& command :
       {fmt::format("generate {} --prompt a -n 0", model),
        fmt::format("generate {} --prompt a -n -3", model),
        fmt::format("generate {} --prompt a --temperature -1", model),
        fmt::format("generate {} --prompt a --temperature nan", model),
        fmt::format("generate {} --prompt a --repetition-penalty inf", model),
        fmt::format("generate {} --prompt a --top-k -1", model),
        fmt::format("generate {} --prompt a --top-p 2", model),
        fmt::format("chat {} -n many", model), fmt::format("bench {} -r 0", model),
        fmt::format("eval {} --text {} --self-tokens 0", model, text),
        fmt::format("compress {} --keep 0.8 --calibration-tokens 0 -o x", model),
        fmt::format("heal {} --data {} --batch 0 -o x", model, text),
        fmt::format("profile {} --text {} --max-tokens 0 -o x", model, text),
        fmt::format("plan {} --keep 0.8 --context 0 -o x", model)}) {
    const Ran ran = test::run_in_shell(tmp, "$S " + command);
    EXPECT_EQ(ran.code, 2) << command << ran.err;
    EXPECT_TRUE(ran.err.starts_with("error: ")) << ran.err;
    EXPECT_LT(ran.err.size(), 120u) << ran.err;
  }
  EXPECT_NE(test::run_in_shell(tmp, fmt::format("$S generate {} --prompt a -n 0", model))
                .err.find("expected a number above 0, got 0"),
            std::string::npos);
}

}  // namespace
}  // namespace schmidt
