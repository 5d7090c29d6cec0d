#include "schmidt/text/documents.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::text {
namespace {

class DocumentsTest : public testing::Test {
 protected:
  Documents read(const std::string& content, const std::string& name = "a.jsonl",
                 const DocumentOptions& options = {}) {
    test::write_file(tmp_ / name, content);
    return read_documents(tmp_ / name, options);
  }

  std::string error(const std::string& content, const std::string& name = "a.jsonl") {
    try {
      read(content, name);
    } catch (const FormatError& e) {
      return e.what();
    }
    return "";
  }

  test::TemporaryFolder tmp_;
};

TEST_F(DocumentsTest, EveryFormOfConversationIsTheSame) {
  const Documents read_all = read(
      R"({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]})"
      "\n\n"
      R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]})"
      "\n"
      R"({"data": ["Q", "A"], "id": "7"})"
      "\r\n"
      R"({"instruction": "Q", "input": "", "output": "A"})");
  ASSERT_EQ(read_all.documents.size(), 4u);
  for (const Document& document : read_all.documents) {
    ASSERT_EQ(document.messages.size(), 2u);
    EXPECT_EQ(document.messages[0].role, "user");
    EXPECT_EQ(document.messages[0].content, "Q");
    EXPECT_EQ(document.messages[1].role, "assistant");
    EXPECT_EQ(document.messages[1].content, "A");
  }
}

TEST_F(DocumentsTest, InputFollowsTheInstruction) {
  const auto d = read(R"({"instruction": "Add.", "input": "1 2", "output": "3"})").documents;
  EXPECT_EQ(d.at(0).messages.at(0).content, "Add.\n1 2");
}

TEST_F(DocumentsTest, PlainTextIsWhole) {
  EXPECT_EQ(read("two\nlines\n", "a.txt").documents.at(0).text, "two\nlines\n");
  EXPECT_EQ(read(R"({"text": "one"})").documents.at(0).text, "one");
}

TEST_F(DocumentsTest, BrokenLinesAreNamedOrSkipped) {
  const std::string good = R"({"text": "x"})";
  for (const char* bad :
       {"{", "[1]", R"({"messages": "x"})", R"({"other": 1})", "\"\xff\"", R"({"messages": []})",
        R"({"conversations": [{"from": "?", "value": ""}]})", R"({"instruction": "no output"})",
        R"({"text": 3})"}) {
    const std::string content = good + "\n" + bad + "\n" + good + "\n";
    EXPECT_NE(error(content).find("line 2"), std::string::npos) << bad << ": " << error(content);
    const Documents skipped = read(content, "a.jsonl", {.skip_bad = true});
    EXPECT_EQ(skipped.documents.size(), 2u) << bad;
    EXPECT_EQ(skipped.skipped, 1) << bad;
  }
}

TEST_F(DocumentsTest, EmptyAndForeignFilesAreRefused) {
  EXPECT_NE(error(""), "");
  EXPECT_NE(error("", "a.txt"), "");
  EXPECT_NE(error("caf\xe9", "a.txt").find("UTF-8"), std::string::npos);
  EXPECT_THROW(read_documents(tmp_ / "absent.txt"), SystemError);
}

}  // namespace
}  // namespace schmidt::text
