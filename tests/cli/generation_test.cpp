// generate, chat and tokenize: what is drawn, what is read, what fits.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/text/documents.h"

#include "tests/cli/program.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

using test::Ran;

// Rows of the embedding behind the tokenizer's 259 tokens.
constexpr int64_t kTokens = 259;

class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() { write(test::make_tiny_model()); }

  void write(const test::TinyModel& tiny) {
    test::write_model(tiny, tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
  }

  // As no real model is: the rows without a token are the likeliest of all, whatever was read.
  void make_padding_likely() {
    test::TinyModel tiny = test::make_tiny_model();
    torch::Tensor& rows = tiny.tensors["model.embed_tokens.weight"];
    for (int64_t id = kTokens; id < rows.size(0); ++id) {
      rows[id] = rows[kTokens - 1] * ((id - kTokens) % 2 == 0 ? 500.0 : -500.0);
    }
    write(tiny);
  }

  Ran run(const std::string& arguments, const std::string& input = "") {
    return test::run_in_shell(tmp, fmt::format("$S {} ", arguments), input);
  }

  nlohmann::json json(const std::string& arguments, const std::string& input = "") {
    const Ran ran = run(arguments + " --json -q", input);
    EXPECT_EQ(ran.code, 0) << arguments << ": " << ran.err;
    return nlohmann::json::parse(ran.out);
  }

  std::vector<nlohmann::json> chat(const std::string& options, const std::string& input) {
    const Ran ran = run(fmt::format("chat {} --json {}", model, options), input);
    EXPECT_EQ(ran.code, 0) << ran.err;
    said = ran.err;
    std::vector<nlohmann::json> answers;
    for (const std::string& line : ran.lines()) answers.push_back(nlohmann::json::parse(line));
    return answers;
  }

  size_t times_said(const std::string& text) const {
    size_t count = 0;
    for (size_t at = said.find(text); at != std::string::npos; at = said.find(text, at + 1)) {
      ++count;
    }
    return count;
  }

  test::TemporaryFolder tmp;
  std::string model = (tmp / "m").string();
  std::string said;  // by the last chat, on stderr
};

TEST_F(GenerationTest, RowsWithoutATokenAreNeverDrawn) {
  make_padding_likely();
  for (const char* sampling : {"--temperature 0", "--temperature 1 --seed 3",
                               "--temperature 5 --top-k 0 --top-p 1 --min-p 0",
                               "--temperature 0 --repetition-penalty 3"}) {
    const auto out = json(fmt::format("generate {} --prompt Hello -n 24 {}", model, sampling));
    for (const int64_t id : out["ids"]) EXPECT_LT(id, kTokens);
  }
  EXPECT_EQ(chat("-n 16 --temperature 1 --seed 3", "hi\nwhat\n").size(), 2u);
}

TEST_F(GenerationTest, AnEndOfTextWithoutATokenStillEnds) {
  test::TinyModel tiny = test::make_tiny_model();
  torch::Tensor& rows = tiny.tensors["model.embed_tokens.weight"];
  rows[260] = rows[1] * 500.0;
  rows[261] = rows[1] * -500.0;
  tiny.config["eos_token_id"] = {260, 261};
  write(tiny);
  const auto out = json(fmt::format("generate {} --prompt Hello -n 24 --temperature 0", model));
  EXPECT_EQ(out["finish_reason"], "stop");
  EXPECT_EQ(out["ids"].size(), 0u);
}

TEST_F(GenerationTest, IdsWithoutATokenAreNoText) {
  EXPECT_EQ(run("detokenize " + model, "100 259 101 263\n260\n").out, "ab\n\n");
  const Ran beyond = run("detokenize " + model, "100 264\n");
  EXPECT_EQ(beyond.code, 2);
  EXPECT_NE(beyond.err.find("(0 .. 263), got 264"), std::string::npos) << beyond.err;
}

TEST_F(GenerationTest, AFullContextDropsTheOldestTurns) {
  std::string questions;
  for (int i = 0; i < 5; ++i) questions += fmt::format("Question number {}\n", i);
  const auto answers = chat("-n 12 --temperature 0 --system Be", questions);
  ASSERT_EQ(answers.size(), 5u);
  for (const auto& answer : answers) EXPECT_EQ(answer["role"], "assistant");
  EXPECT_EQ(times_said("note: the conversation no longer fits"), 1u) << said;
  EXPECT_EQ(times_said("error"), 0u) << said;
  // Once for each conversation, and not a word where quiet is asked for.
  chat("-n 12 --temperature 0", questions + "/reset\n" + questions);
  EXPECT_EQ(times_said("note: the conversation no longer fits"), 2u) << said;
  chat("-n 12 --temperature 0 -q", questions);
  EXPECT_EQ(said, "");
}

TEST_F(GenerationTest, AfterResetAFullConversationIsAsGoodAsNew) {
  std::string questions;
  for (int i = 0; i < 5; ++i) questions += fmt::format("Question number {}\n", i);
  const auto fresh = chat("-n 12 --temperature 0", "hi\n");
  const auto later = chat("-n 12 --temperature 0", questions + "/reset\nhi\n");
  EXPECT_EQ(later.back(), fresh.front());
}

TEST_F(GenerationTest, ATurnThatDoesNotFitIsRefusedAndTheSessionGoesOn) {
  const std::string enormous(300, 'a');
  const auto answers = chat("-n 4 --temperature 0", "hi\n" + enormous + "\nhi\n");
  ASSERT_EQ(answers.size(), 3u) << "a line for each question";
  EXPECT_NE(answers[1]["error"].get<std::string>().find("fewer than 128 tokens, the context"),
            std::string::npos);
  EXPECT_EQ(times_said("error: [chat] expected a turn of fewer than 128 tokens"), 1u) << said;
  // The conversation before it is still there.
  EXPECT_EQ(answers[2], chat("-n 4 --temperature 0", "hi\nhi\n")[1]);
  EXPECT_EQ(chat("-n 4 --temperature 0", "hi\nhi\n").size(), 2u);
  // A system message that fills the context alone: every turn is refused, the end is regular.
  EXPECT_EQ(chat("-n 4 --system " + enormous, "hi\n/reset\nhi\n/exit\n").size(), 2u);
  EXPECT_EQ(times_said("expected the system message and a turn of fewer than 128 tokens"), 2u);
}

TEST_F(GenerationTest, LineEndsOfWindowsAreNoPartOfCommandsAndQuestions) {
  const auto plain = chat("-n 6 --temperature 0", "hi\n/reset\nho\n/exit\nhi\n");
  EXPECT_EQ(plain.size(), 2u);
  EXPECT_EQ(chat("-n 6 --temperature 0", "hi\r\n/reset\r\nho\r\n\r\n/exit\r\nhi\r\n"), plain);
  EXPECT_EQ(chat("-n 6 --temperature 0", "hi\n/reset \t\nho\r\n/exit \r"), plain);
}

TEST_F(GenerationTest, ThePromptComesFromAPipe) {
  const std::string options = fmt::format("generate {} -n 8 --seed 5", model);
  const auto given = json(options + " --prompt 'a b'");
  EXPECT_EQ(json(options, "a b\n"), given);
  EXPECT_EQ(json(options, "a b"), given);
  EXPECT_EQ(json(options + " -f -", "a b\r\n"), given);
  EXPECT_EQ(json(options + " -f - --no-special", "a b\n"), given);
  test::write_file(tmp / "prompt", "a b\n");
  EXPECT_EQ(json(fmt::format("{} -f {}", options, (tmp / "prompt").string())), given);
  EXPECT_EQ(json(options, "a\n\nb\n\n")["prompt"], "a\n\nb\n");
  // What is given counts more than what happens to be on standard input.
  EXPECT_EQ(json(options + " --prompt 'a b'", "other"), given);
  for (const char* empty : {"", "\n"}) {
    const Ran ran = run(options, empty);
    EXPECT_EQ(ran.code, 2);
    EXPECT_NE(ran.err.find("expected a prompt"), std::string::npos) << ran.err;
  }
  EXPECT_EQ(run(options + " --prompt ''", "a b").code, 2);
}

TEST_F(GenerationTest, SeveralPromptsAreContinuedEachByItself) {
  const std::string options = fmt::format("generate {} -n 8 --seed 5", model);
  const auto both = json(options + " -p 'a b' -p 'a c'");
  ASSERT_EQ(both["continuations"].size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    auto alone = json(options + (i == 0 ? " -p 'a b'" : " -p 'a c'"));
    EXPECT_EQ(alone["model"], both["model"]);
    alone.erase("model");
    EXPECT_EQ(both["continuations"][i], alone);
  }
  EXPECT_EQ(run(options + " -p a -p ''").code, 2);
}

TEST_F(GenerationTest, TwoBosTokensGetANote) {
  const std::string note = "note: the text begins with two BOS tokens, <|im_start|> <|im_start|>";
  const std::string generate = fmt::format("generate {} -n 1 --prompt ", model);
  EXPECT_EQ(run(generate + "'<|im_start|>a'").err, "");
  EXPECT_EQ(run(generate + "'<|im_start|><|im_start|>a'").err, "") << "nothing is added to them";
  auto config = nlohmann::json::parse(test::read_file(tmp / "m/tokenizer_config.json"));
  config["add_bos_token"] = true;
  test::write_file(tmp / "m/tokenizer_config.json", config.dump());
  EXPECT_NE(run(generate + "'<|im_start|>a'").err.find(note), std::string::npos);
  EXPECT_EQ(run(generate + "'<|im_start|>a' -q").err, "");
  EXPECT_EQ(run(generate + "a").err, "");
  EXPECT_EQ(run(generate + "'<|im_start|>a' --no-special").err, "");
  const std::string lines = "<|im_start|>a\n<|im_start|>b\n";
  said = run(fmt::format("tokenize {} --add-special", model), lines).err;
  EXPECT_EQ(times_said(note), 1u) << said;
  EXPECT_EQ(run("tokenize " + model, lines).err, "");
}

TEST_F(GenerationTest, ADraftChangesNothingButTheTime) {
  test::TinyModel draft = test::make_tiny_model();
  torch::Tensor& norm = draft.tensors["model.norm.weight"];
  norm = norm * 0.7;  // other logits, the same order
  test::write_model(draft, tmp / "draft");
  test::write_byte_tokenizer(tmp / "draft");
  const std::string with_draft = " --draft " + (tmp / "draft").string() + " --draft-p-min 0";
  for (const char* sampling : {"--temperature 0", "--temperature 1 --seed 5"}) {
    const std::string command = fmt::format("generate {} -p Once -n 30 {}", model, sampling);
    const nlohmann::json alone = json(command), ahead = json(command + with_draft);
    EXPECT_EQ(ahead["ids"], alone["ids"]);
    EXPECT_GT(ahead["draft"]["proposed"], 0);
    EXPECT_LE(ahead["draft"]["accepted"], ahead["draft"]["proposed"]);
    EXPECT_FALSE(alone.contains("draft"));
  }
  const Ran noted = run(fmt::format("generate {} -p Once -n 9 {}", model, with_draft));
  EXPECT_NE(noted.err.find("tokens that the draft proposed were accepted"), std::string::npos);
  const auto turns = [&](const std::string& options) {
    return chat("--temperature 0 -n 8 -q" + options, "One\nTwo\n");
  };
  EXPECT_EQ(turns(with_draft), turns(""));
}

TEST_F(GenerationTest, ADraftOfOtherTokensIsRefused) {
  const auto expect_refused = [&](const std::string& options, const std::string& part) {
    const Ran ran = run(fmt::format("generate {} -p Once {}", model, options));
    EXPECT_EQ(ran.code, 2) << ran.err;
    EXPECT_TRUE(ran.out.empty());
    EXPECT_NE(ran.err.find(part), std::string::npos) << ran.err;
  };
  test::write_model(test::make_tiny_model(), tmp / "draft");
  test::ByteTokenizer other;
  other.special.push_back("<|another|>");  // all tokens behind it have moved
  test::write_byte_tokenizer(tmp / "draft", other);
  expect_refused("--draft " + (tmp / "draft").string(), "expected a model of the same tokens");
  expect_refused("--draft-tokens 3", "--draft");
  expect_refused("--draft " + model + " --draft-tokens 0", "--draft-tokens");
}

TEST_F(GenerationTest, ASampleIsADocumentFileOfTheModelsOwnText) {
  make_padding_likely();
  const std::string file = (tmp / "own.jsonl").string();
  const std::string sample = fmt::format("sample {} --tokens 1000 --length 40 --seed 3", model);
  const auto result = json(sample + " -o " + file);
  EXPECT_EQ(result["documents"], 25);
  EXPECT_EQ(result["tokens"], 1000);
  std::string text;
  for (const text::Document& document : text::read_documents(file, {}).documents) {
    text += document.text;
  }
  EXPECT_GT(text.size(), 500u);

  // The same again, the other half another text, and no folder is left.
  const auto bytes = [&](const std::string& options, const std::string& name) {
    json(fmt::format("{} {} -o {}", sample, options, (tmp / name).string()));
    return test::read_file(tmp / name);
  };
  EXPECT_EQ(bytes("", "again.jsonl"), test::read_file(file));
  EXPECT_NE(bytes("--held-out", "test.jsonl"), test::read_file(file));
  EXPECT_FALSE(std::filesystem::exists(file + ".partial"));
  EXPECT_EQ(run(sample + " -o " + file).code, 2) << "it exists";
  EXPECT_EQ(run(sample + " --force -q -o " + file).code, 0);
  EXPECT_EQ(run(sample + " -o " + (tmp / "own.txt").string()).code, 2);

  // What was drawn before a kill is drawn no second time.
  const std::string killed = (tmp / "killed.jsonl").string();
  const Ran ran = test::run_in_shell(
      tmp,
      fmt::format("$S {0} -o {1} -q & for i in $(seq 2000); do "
                  "grep -qs . {1}.partial/records.0 && break; sleep 0.005; done; kill -9 %1; wait",
                  sample, killed));
  json(sample + " -o " + killed);
  EXPECT_EQ(test::read_file(killed), test::read_file(file)) << ran.err;
}

}  // namespace
}  // namespace schmidt
