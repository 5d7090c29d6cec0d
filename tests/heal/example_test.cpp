// Which tokens of a conversation are trained, in the format of every family.
#include "schmidt/heal/example.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::heal {
namespace {

using text::Document;
using text::Tokenizer;

Tokenizer tokenizer_of(const test::ByteTokenizer& of) {
  const test::TemporaryFolder folder;
  test::write_byte_tokenizer(folder.path(), of);
  return Tokenizer::load(folder.path());
}

/// The text with what is trained in ‹ ›.
std::string marked(const Tokenizer& tokenizer, const Example& example) {
  std::string text;
  std::vector<int64_t> run;
  bool is_trained = false;
  const auto close = [&] {
    const std::string part = tokenizer.decode(run);
    text += is_trained ? "‹" + part + "›" : part;
    run.clear();
  };
  for (size_t i = 0; i < example.ids.size(); ++i) {
    if (example.trained[i] != is_trained) {
      close();
      is_trained = example.trained[i];
    }
    run.push_back(example.ids[i]);
  }
  close();
  return text;
}

std::string answers(const Tokenizer& tokenizer, const std::vector<text::Message>& messages,
                    std::string_view model_type = "") {
  return marked(tokenizer, make_example(tokenizer, model_type, {messages, {}}, LossOn::kAssistant));
}

const std::vector<text::Message> kTwoTurns = {
    {"user", "Hi"}, {"assistant", "Hello."}, {"user", "Who?"}, {"assistant", "Me."}};

std::vector<text::Message> with_system(std::vector<text::Message> messages) {
  messages.insert(messages.begin(), {"system", "Be."});
  return messages;
}

TEST(Example, ChatMl) {
  const Tokenizer tokenizer = tokenizer_of({});
  EXPECT_EQ(answers(tokenizer, with_system(kTwoTurns)),
            "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n‹Hello.<|im_end|>›\n<|im_start|>user\nWho?<|im_end|>\n"
            "<|im_start|>assistant\n‹Me.<|im_end|>›\n");
}

TEST(Example, Llama2) {
  const Tokenizer tokenizer =
      tokenizer_of({.special = {"<s>", "</s>"}, .bos = "<s>", .eos = "</s>", .chat_template = ""});
  EXPECT_EQ(answers(tokenizer, with_system(kTwoTurns), "llama"),
            "<s>[INST] <<SYS>>\nBe.\n<</SYS>>\n\nHi [/INST]‹ Hello. </s>›"
            "<s>[INST] Who? [/INST]‹ Me. </s>›");
}

TEST(Example, Llama3) {
  test::ByteTokenizer of = {
      .special = {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
      .bos = "<|begin_of_text|>",
      .eos = "<|eot_id|>",
      .chat_template = ""};
  const std::string turns =
      "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n‹Hello.<|eot_id|>›"
      "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n‹Me.<|eot_id|>›";
  EXPECT_EQ(answers(tokenizer_of(of), kTwoTurns, "llama"), "<|begin_of_text|>" + turns);

  of.chat_template =
      "{{ bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
      "December 2023\nToday Date: ' + strftime_now('%d %b %Y') + '\n\n<|eot_id|>' }}"
      "{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + "
      "m.content | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
      "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
  EXPECT_EQ(answers(tokenizer_of(of), kTwoTurns),
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge "
            "Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>" +
                turns);
}

TEST(Example, Mistral) {
  test::ByteTokenizer of = {.special = {"<s>", "</s>"},
                            .bos = "<s>",
                            .eos = "</s>",
                            .chat_template =
                                "{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m.content + "
                                "' [/INST]' if m.role == 'user' else m.content + eos_token + ' ' }}"
                                "{% endfor %}"};
  EXPECT_EQ(answers(tokenizer_of(of), kTwoTurns),
            "<s>[INST] Hi [/INST]‹Hello.</s>› [INST] Who? [/INST]‹Me.</s>› ");
  of.chat_template =
      "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ ' [INST] ' + "
      "(messages[0].content + '\n\n' if loop.index == 2 and messages[0].role == 'system' else '') "
      "+ m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}{{ ' ' + m.content + eos_token }}"
      "{% endif %}{% endfor %}";
  EXPECT_EQ(answers(tokenizer_of(of), with_system(kTwoTurns)),
            "<s> [INST] Be.\n\nHi [/INST]‹ Hello.</s>› [INST] Who? [/INST]‹ Me.</s>›");
}

// The system message stands in a question that ends the conversation and nowhere else: no
// beginning of this one is written as the beginning of the whole.
TEST(Example, MistralThatMovesTheSystemMessage) {
  const Tokenizer tokenizer = tokenizer_of({.special = {"<s>", "</s>", "[INST]", "[/INST]"},
                                            .bos = "<s>",
                                            .eos = "</s>",
                                            .chat_template = ""});
  EXPECT_EQ(answers(tokenizer, kTwoTurns, "mistral"),
            "<s>[INST] Hi[/INST]‹ Hello.</s>›[INST] Who?[/INST]‹ Me.</s>›");
  EXPECT_EQ(answers(tokenizer, with_system(kTwoTurns), "mistral"),
            "<s>[INST] Hi[/INST] ‹Hello.</s>›[INST] Who?[/INST] ‹Me.</s>›");
}

TEST(Example, Zephyr) {
  const Tokenizer tokenizer = tokenizer_of(
      {.special = {"<s>", "</s>"},
       .bos = "<s>",
       .eos = "</s>",
       .chat_template = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token "
                        "+ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}"
                        "{% endif %}"});
  EXPECT_EQ(answers(tokenizer, kTwoTurns),
            "<|user|>\nHi</s>\n<|assistant|>\n‹Hello.</s>›\n"
            "<|user|>\nWho?</s>\n<|assistant|>\n‹Me.</s>›\n");
}

// Reasoning is written in the last answer and dropped from earlier ones.
TEST(Example, Qwen3) {
  const Tokenizer tokenizer = tokenizer_of({.chat_template = ""});
  const std::string before =
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n‹Hello.<|im_end|>›\n"
      "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(answers(tokenizer,
                    {{"user", "Hi"},
                     {"assistant", "<think>\nA greeting.\n</think>\n\nHello."},
                     {"user", "Who?"},
                     {"assistant", "<think>\nMyself.\n</think>\n\nMe."}},
                    "qwen3"),
            before + "‹<think>\nMyself.\n</think>\n\nMe.<|im_end|>›\n");
  EXPECT_EQ(answers(tokenizer, kTwoTurns, "qwen3"),
            before + "‹<think>\n\n</think>\n\nMe.<|im_end|>›\n");
  // Two answers in a row: the first is written otherwise while it is the last.
  EXPECT_EQ(
      answers(tokenizer, {{"user", "Hi"}, {"assistant", "Hello."}, {"assistant", "Me."}}, "qwen3"),
      "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n‹Hello.<|im_end|>›\n"
      "<|im_start|>assistant\n<think>\n\n</think>\n\n‹Me.<|im_end|>›\n");
}

TEST(Example, ATokenThatStraddlesTheBorderIsTheAssistants) {
  const Tokenizer tokenizer = tokenizer_of({.merges = {"Ċ Ċ"}});
  EXPECT_EQ(answers(tokenizer, {{"user", "Q"}, {"assistant", "\n\nA"}}),
            "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant‹\n\n\nA<|im_end|>›\n");
}

TEST(Example, AnswersThatRepeatTheQuestionAreFoundWhereTheyStand) {
  const Tokenizer tokenizer = tokenizer_of({});
  EXPECT_EQ(answers(tokenizer, {{"user", "assistant\nA"},
                                {"assistant", "assistant\nA\x01\uE000"},
                                {"user", "A"},
                                {"assistant", "A"}}),
            "<|im_start|>user\nassistant\nA<|im_end|>\n<|im_start|>assistant\n‹assistant\nA\x01"
            "\uE000<|im_end|>›\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\n"
            "‹A<|im_end|>›\n");
}

TEST(Example, AnAnswerWithoutWordsTrainsNothing) {
  const Tokenizer tokenizer = tokenizer_of({});
  const Example example =
      make_example(tokenizer, "", {{{"user", "Q"}, {"assistant", " \n"}}, {}}, LossOn::kAssistant);
  EXPECT_EQ(std::count(example.trained.begin(), example.trained.end(), true), 0);
  EXPECT_TRUE(windows_of(example, 8).empty());
}

TEST(Example, AllTokensOfTextAndOfConversationsOnRequest) {
  const Tokenizer tokenizer = tokenizer_of({});
  EXPECT_EQ(marked(tokenizer, make_example(tokenizer, "", {{}, "some"}, LossOn::kAssistant)),
            "‹some›");
  EXPECT_EQ(marked(tokenizer, make_example(tokenizer, "", {{{"user", "Q"}}, {}}, LossOn::kAll)),
            "‹<|im_start|>user\nQ<|im_end|>\n›");
}

TEST(Example, RefusesWhatTheFamilyDoesNotKnow) {
  const Tokenizer tokenizer =
      tokenizer_of({.special = {"<s>", "</s>"}, .bos = "<s>", .eos = "</s>", .chat_template = ""});
  EXPECT_THROW(answers(tokenizer, {{"assistant", "A"}}, "llama"), c10::ValueError);
}

TEST(WindowsOf, KeepsFlagsAndDropsWhatTeachesNothing) {
  Example example;
  for (int64_t i = 0; i < 19; ++i) {
    example.ids.push_back(i);
    example.trained.push_back(i == 3 || i == 5 || i == 11);
  }
  // 0..4, 5..9 (the first token cannot be predicted), 10..14, 15..18
  const std::vector<Example> windows = windows_of(example, 5);
  ASSERT_EQ(windows.size(), 2u);
  EXPECT_EQ(windows[0].ids, (std::vector<int64_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(windows[0].trained, (std::vector<bool>{false, false, false, true, false}));
  EXPECT_EQ(windows[1].ids, (std::vector<int64_t>{10, 11, 12, 13, 14}));
  EXPECT_EQ(windows[1].trained, (std::vector<bool>{false, true, false, false, false}));
  EXPECT_THROW(windows_of(example, 1), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::heal
