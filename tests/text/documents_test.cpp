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

TEST_F(DocumentsTest, NullsPartsAndForeignKeysAreRead) {
  const Documents read_all = read(
      R"({"instruction": "Q", "input": null, "output": "A"})"
      "\n"
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "Q"}]},)"
      R"( {"role": "assistant", "content": ["A", {"type": "text", "text": ""}], "tool_calls": []}]})"
      "\n"
      R"({"messages": null, "conversations": [{"role": "Human", "content": "Q"},)"
      R"( {"from": "chatgpt", "value": "A"}]})");
  ASSERT_EQ(read_all.documents.size(), 3u);
  for (const Document& document : read_all.documents) {
    ASSERT_EQ(document.messages.size(), 2u);
    EXPECT_EQ(document.messages[0].role, "user");
    EXPECT_EQ(document.messages[0].content, "Q");
    EXPECT_EQ(document.messages[1].role, "assistant");
    EXPECT_EQ(document.messages[1].content, "A");
  }
}

TEST_F(DocumentsTest, WhatStandsBesideTheTurnsIsReadToo) {
  const Documents read_all =
      read(R"({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}],)"
           R"( "system": "S", "tools": "[]"})"
           "\n"
           R"({"instruction": "Q2", "history": [["Q", "A"]], "output": "A2", "system": "S"})");
  ASSERT_EQ(read_all.documents.size(), 2u);
  ASSERT_EQ(read_all.documents[0].messages.size(), 3u);
  ASSERT_EQ(read_all.documents[1].messages.size(), 5u);
  for (const Document& document : read_all.documents) {
    EXPECT_EQ(document.messages[0].role, "system");
    EXPECT_EQ(document.messages[0].content, "S");
    EXPECT_EQ(document.messages[1].content, "Q");
    EXPECT_EQ(document.messages[2].content, "A");
  }
  EXPECT_EQ(read_all.documents[1].messages[4].content, "A2");
  const auto thought = read(R"({"messages": [{"role": "assistant", "content": "A", "weight": 1,)"
                            R"( "reasoning_content": "R"}]})");
  using Texts = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(thought.documents.at(0).messages.at(0).fields, (Texts{{"reasoning_content", "R"}}));
}

TEST_F(DocumentsTest, WrongTypesAreToldInWordsWithTheirPlace) {
  for (const auto& [line, place] : std::vector<std::pair<std::string, std::string>>{
           {R"({"messages": [{"role": "user", "content": 3}]})", "messages[0].content: expected a"},
           {R"({"messages": [{"role": "user", "content": null}]})", "messages[0]: expected a key"},
           {R"({"messages": [{"role": 1, "content": "x"}]})",
            "messages[0].role: expected a string"},
           {R"({"messages": [{"role": "tool", "content": "x"}]})", "got \"tool\""},
           {R"({"messages": {"role": "user"}})", "messages: expected an array"},
           {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})", "image_url"},
           {R"({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]})", "tools"},
           {R"({"messages": [{"role": "user", "content": "x"}], "tools": [{}]})", "without tools"},
           {R"({"conversations": ["x"]})", "conversations[0]: expected an object"},
           {R"({"instruction": "x", "history": [["q"]], "output": "y"})",
            "history[0]: expected a question and its answer"},
           {R"({"data": [null]})", "data[0]: expected a string"},
           {R"({"instruction": "x", "output": null})", "expected a key \"output\""},
           {R"({"instruction": "x", "input": [], "output": ""})", "input: expected a string"}}) {
    const std::string what = error(R"({"text": "x"})"
                                   "\n" +
                                   line);
    EXPECT_NE(what.find("a.jsonl: line 2: "), std::string::npos) << what;
    EXPECT_NE(what.find(place), std::string::npos) << what;
    EXPECT_EQ(what.find("json.exception"), std::string::npos) << what;
  }
}

TEST_F(DocumentsTest, WhatARefusalNamesIsABrokenLine) {
  const std::string content = R"({"text": "a"})"
                              "\n"
                              R"({"text": "b"})";
  const Refusal refusal = [](const Document& d) {
    return d.text == "b" ? std::optional<std::string>("unwanted") : std::nullopt;
  };
  EXPECT_THROW(read(content, "a.jsonl", {.refusal = refusal}), FormatError);
  const Documents kept = read(content, "a.jsonl", {.skip_bad = true, .refusal = refusal});
  EXPECT_EQ(kept.documents.size(), 1u);
  EXPECT_EQ(kept.skipped, 1);
}

TEST_F(DocumentsTest, RecordsAreKnownByNameInAnyCaseAndByWhatTheFileHolds) {
  const std::string one = R"({"text": "x, ]}[\""})", two = R"({"text":)"
                                                           "\n"
                                                           R"("y"})";
  for (const char* name : {"a.JSONL", "b.Jsonl", "c.ndjson", "d.json", "e.JSON"}) {
    EXPECT_EQ(read(one + "\n" + one + "\n", name).documents.size(), 2u) << name;
  }
  for (const char* name : {"f.json", "g.JSON", "h.jsonl"}) {
    const Documents array = read(" [\n" + one + ",\n\n" + two + " ]\n", name);
    ASSERT_EQ(array.documents.size(), 2u) << name;
    EXPECT_EQ(array.documents[0].text, "x, ]}[\"");
    EXPECT_EQ(array.documents[1].text, "y");
  }
  EXPECT_EQ(read("[1]", "a.txt").documents.at(0).text, "[1]");
  EXPECT_NE(error("[" + one + ",\n{\"text\": 1}]", "a.json").find("line 2: text"),
            std::string::npos);
  EXPECT_EQ(read("[" + one + ",\n{\"text\": 1}]", "a.json", {.skip_bad = true}).skipped, 1);
  for (const char* broken : {"[]", "[,]", "[{\"text\": \"x\"},]", "[{\"text\": \"x\"} [3]]",
                             "[{\"text\": \"x\"]", "[{\"text\": \"x\"}] []"}) {
    EXPECT_NE(error(broken, "a.json"), "") << broken;
  }
}

TEST_F(DocumentsTest, ObjectsMayStandOverSeveralLines) {
  const std::string one = "{\n  \"text\": \"x }\\\" {\"\n}\n";
  const std::string chat =
      "{\r\n  \"messages\": [\r\n    {\"role\": \"user\",\n \"content\": \"y\"}\n  ]\n}";
  for (const char* name : {"a.json", "b.jsonl"}) {
    EXPECT_EQ(read(one, name).documents.at(0).text, "x }\" {") << name;
    const Documents two = read("\n" + one + "\n" + chat, name);
    ASSERT_EQ(two.documents.size(), 2u) << name;
    EXPECT_EQ(two.documents[1].messages.at(0).content, "y");
  }
  EXPECT_NE(error(one + "{\n\"text\": 1\n}", "a.json").find("line 4: text"), std::string::npos);
  EXPECT_EQ(read(one + "{\n\"text\": 1\n}\n" + one, "a.json", {.skip_bad = true}).skipped, 1);
  const Documents behind = read("{\n\"text\": [1\n}\n" + one + one, "a.json", {.skip_bad = true});
  EXPECT_EQ(behind.skipped, 1);
  EXPECT_EQ(behind.documents.size(), 2u);
  for (const char* broken : {"{\n", "{\n\"text\": \"x\"", "{\n}", "{\n\"text\": \"x\"\n},\n{}"}) {
    EXPECT_NE(error(broken, "a.json"), "") << broken;
  }
}

TEST_F(DocumentsTest, AMarkBeforeTheTextIsDropped) {
  EXPECT_EQ(read("\xEF\xBB\xBFx", "a.txt").documents.at(0).text, "x");
  EXPECT_EQ(read("\xEF\xBB\xBF{\"text\": \"x\"}").documents.at(0).text, "x");
  EXPECT_EQ(read("\xEF\xBB\xBF[{\"text\": \"x\"}]", "a.json").documents.at(0).text, "x");
  EXPECT_NE(error(std::string("\xFF\xFE{\0", 4)).find("UTF-16"), std::string::npos);
}

TEST_F(DocumentsTest, InputFollowsTheInstruction) {
  const auto d = read(R"({"instruction": "Add.", "input": "1 2", "output": "3"})").documents;
  EXPECT_EQ(d.at(0).messages.at(0).content, "Add.\n1 2");
}

TEST_F(DocumentsTest, PlainTextIsWhole) {
  EXPECT_EQ(read("two\nlines\n", "a.txt").documents.at(0).text, "two\nlines\n");
  EXPECT_EQ(read(R"({"text": "one"})").documents.at(0).text, "one");
}

TEST_F(DocumentsTest, TextStandsAlone) {
  // Rows of text alone as datasets have them, some of which are empty.
  const Documents rows = read(R"({"text": "one"}
{"text": ""}
{"text": "two", "data": "2020-01-01", "instruction": "x", "messages": 0, "score": NaN}
)");
  ASSERT_EQ(rows.documents.size(), 2U);
  EXPECT_EQ(rows.documents[1].text, "two");
  EXPECT_EQ(rows.skipped, 0);
  // Turns go before.
  EXPECT_EQ(read(R"({"text": "x", "messages": [{"role": "user", "content": "y"}]})")
                .documents.at(0)
                .messages.size(),
            1U);
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
