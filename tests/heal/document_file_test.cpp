// Files of text read one document at a time, broken and hostile ones among them.
#include "schmidt/heal/document_file.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::heal {
namespace {

class DocumentFileTest : public testing::Test {
 protected:
  DocumentFile open(const std::string& name, const std::string& content,
                    const DocumentFileOptions& options = {}) {
    test::write_file(tmp_ / name, content);
    return DocumentFile(tmp_ / name, options);
  }

  std::string error(const std::string& name, const std::string& content,
                    const DocumentFileOptions& options = {}) {
    try {
      open(name, content, options);
    } catch (const FormatError& e) {
      return e.what();
    }
    return "";
  }

  static std::vector<std::string> texts(DocumentFile& file) {
    std::vector<std::string> all;
    for (int64_t i = 0; i < file.size(); ++i) all.push_back(file.read(i).text);
    return all;
  }

  test::TemporaryFolder tmp_;
};

std::string line(const std::string& text) { return R"({"text": ")" + text + "\"}\n"; }

TEST_F(DocumentFileTest, LinesInAnyOrder) {
  DocumentFile file = open("a.jsonl", line("one") + "\n  \r\n" + line("two") + R"({"text":"end"})");
  ASSERT_EQ(file.size(), 3);
  EXPECT_EQ(file.read(2).text, "end");
  EXPECT_EQ(file.read(0).text, "one");
  EXPECT_EQ(file.read(2).text, "end");
  EXPECT_EQ(file.read(1).text, "two");
  EXPECT_THROW(file.read(3), c10::ValueError);
  EXPECT_THROW(file.read(-1), c10::ValueError);
}

TEST_F(DocumentFileTest, PiecesAreWholeLinesAndTogetherTheFile) {
  std::string content;
  for (int i = 0; i < 300; ++i) content += std::string(i * 37 % 41, 'a' + i % 26) + "\n";
  content += "no line end";
  DocumentFile file = open("a.txt", content, {.piece = 100});
  std::string whole;
  const std::vector<std::string> pieces = texts(file);
  for (size_t i = 0; i < pieces.size(); ++i) {
    whole += pieces[i];
    if (i + 1 == pieces.size()) break;
    EXPECT_EQ(pieces[i].back(), '\n');
    EXPECT_GE(pieces[i].size(), 100u);
    EXPECT_LE(pieces[i].size(), 141u);
  }
  EXPECT_EQ(whole, content);
}

TEST_F(DocumentFileTest, LongLinesAreCutBetweenWordsOrCharacters) {
  std::string words, umlauts;
  for (int i = 0; i < 500; ++i) words += "word ", umlauts += "ü";
  DocumentFile of_words = open("a.txt", words, {.piece = 64});
  std::string whole;
  for (const std::string& piece : texts(of_words)) {
    EXPECT_LE(piece.size(), 256u);
    EXPECT_TRUE(whole.empty() || piece.front() == ' ');
    whole += piece;
  }
  EXPECT_EQ(whole, words);
  DocumentFile of_umlauts = open("b.txt", umlauts, {.piece = 63});
  EXPECT_EQ(of_umlauts.size(), 4);
  EXPECT_EQ(texts(of_umlauts)[0].size(), 252u);
}

TEST_F(DocumentFileTest, BrokenLinesAreNamedOrSkipped) {
  for (const std::string bad : {"{", "[1]", R"({"other": 1})", "\"\xff\"", R"({"text": 3})"}) {
    const std::string content = line("one") + bad + "\n" + line("two");
    const std::string what = error("a.jsonl", content);
    EXPECT_NE(what.find("a.jsonl: line 2: "), what.npos) << bad << ": " << what;
    EXPECT_EQ(what.find('\n'), what.npos);
    DocumentFile skipped = open("a.jsonl", content, {.skip_bad = true});
    EXPECT_EQ(texts(skipped), (std::vector<std::string>{"one", "two"})) << bad;
    EXPECT_EQ(skipped.skipped(), 1);
  }
  DocumentFileOptions options;
  options.refusal = [](const text::Document& d) {
    return d.text == "two" ? std::optional<std::string>("unwanted") : std::nullopt;
  };
  const std::string what = error("a.jsonl", line("one") + line("two"), options);
  EXPECT_NE(what.find("line 2: unwanted"), what.npos) << what;
}

TEST_F(DocumentFileTest, ArraysAndNamesInCapitalsHoldRecords) {
  DocumentFile array = open("a.json", "[" + line("one") + ",\n" + line("two") + "]\n");
  EXPECT_EQ(texts(array), (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(array.read(1).text, "two");
  DocumentFile capitals = open("a.JSONL", line("one") + line("two"));
  EXPECT_EQ(texts(capitals), (std::vector<std::string>{"one", "two"}));
}

TEST_F(DocumentFileTest, AMarkBeforeTheTextIsDroppedAndOtherEncodingsAreRefused) {
  DocumentFile text = open("a.txt", "\xEF\xBB\xBFone\n");
  EXPECT_EQ(texts(text), std::vector<std::string>{"one\n"});
  DocumentFile lines = open("a.jsonl", "\xEF\xBB\xBF" + line("one"));
  EXPECT_EQ(texts(lines), std::vector<std::string>{"one"});
  const std::string wide("\xFF\xFEt\0e\0", 6);
  EXPECT_NE(error("b.txt", wide).find("UTF-16"), std::string::npos);
  EXPECT_NE(error("b.jsonl", wide, {.skip_bad = true}).find("UTF-16"), std::string::npos);
  EXPECT_NE(error("c.txt", "text\ncaf\xe9\n").find("byte 8"), std::string::npos);
}

TEST_F(DocumentFileTest, FilesWithoutTextAreRefused) {
  for (const std::string name : {"a.jsonl", "a.txt"}) {
    EXPECT_NE(error(name, "").find("expected some, found none"), std::string::npos) << name;
    EXPECT_THROW(DocumentFile(tmp_ / ("absent" + name), {}), SystemError);
  }
  EXPECT_NE(error("a.jsonl", "\n\n"), "");
  EXPECT_NE(error("a.jsonl", "{\n{\n", {.skip_bad = true}).find("2 broken lines"),
            std::string::npos);
  EXPECT_NE(error("a.txt", "text\ncaf\xe9\n").find("expected UTF-8"), std::string::npos);
  EXPECT_NE(error("a.txt", std::string(5000, '\xff'), {.piece = 64}).find("expected UTF-8"),
            std::string::npos);
  EXPECT_THROW(DocumentFile(tmp_.path(), {}), SystemError);
  EXPECT_THROW(DocumentFile("/dev/null", {}), FormatError);
}

TEST_F(DocumentFileTest, AFileThatChangesIsNoticed) {
  DocumentFile lines = open("a.jsonl", line("one") + line("two"));
  DocumentFile pieces =
      open("a.txt", std::string(100, 'a') + "\n" + std::string(100, 'b') + "\n", {.piece = 64});
  test::write_file(tmp_ / "a.jsonl", std::string(100, 'x'));
  test::write_file(tmp_ / "a.txt", "short\n");
  EXPECT_THROW(lines.read(1), FormatError);
  EXPECT_THROW(pieces.read(1), FormatError);
}

TEST_F(DocumentFileTest, TheHashIsThatOfTheContent) {
  const std::string one = line("one") + line("two"), other = line("one") + line("twa");
  EXPECT_EQ(open("a.jsonl", one).content_hash(), open("b.jsonl", one).content_hash());
  EXPECT_NE(open("a.jsonl", one).content_hash(), open("b.jsonl", other).content_hash());
  EXPECT_NE(open("a.txt", one).content_hash(), open("b.txt", other).content_hash());
}

}  // namespace
}  // namespace schmidt::heal
