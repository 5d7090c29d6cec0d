// Chat formats against transformers' apply_chat_template.
#include "schmidt/text/chat.h"

#include <c10/util/Exception.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/text/oracle.h"

namespace schmidt::text {
namespace {

using nlohmann::json;

Tokenizer tokenizer_with(const std::string& chat_template, const std::vector<std::string>& tokens) {
  const test::TemporaryFolder folder;
  json vocabulary = json::object();
  for (const std::string& token : tokens) vocabulary[token] = vocabulary.size();
  test::write_file(folder / "tokenizer.json",
                   json{{"model", {{"vocab", vocabulary}, {"merges", json::array()}}}}.dump());
  json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  if (!chat_template.empty()) config["chat_template"] = chat_template;
  test::write_file(folder / "tokenizer_config.json", config.dump());
  return Tokenizer::load(folder.path());
}

TEST(Chat, WritesWhatTheTemplatesWrite) {
  const json truths = json::parse(test::read_file(test::text_oracle("chats.json")));
  ASSERT_GE(truths.size(), 13u);
  for (const json& family : truths) {
    const Tokenizer tokenizer = tokenizer_with(family.at("source"), {"<s>", "</s>"});
    int compared = 0;
    for (const json& item : family.at("cases")) {
      std::vector<Message> messages;
      for (const json& m : item.at("messages")) messages.push_back({m.at("role"), m.at("content")});
      ChatOptions options;
      options.generation_prompt = item.at("generation_prompt");
      options.thinking = item.at("thinking");
      if (item.at("prompt").is_null()) {
        EXPECT_THROW(format_chat(tokenizer, "", messages, options), c10::ValueError)
            << family.at("name") << item.at("messages");
        continue;
      }
      std::string prompt;
      try {
        prompt = format_chat(tokenizer, "", messages, options);
      } catch (const c10::ValueError& e) {
        // A system message alone is nothing to answer, whatever a template writes.
        EXPECT_EQ(messages.size(), 1u) << e.what_without_backtrace();
        EXPECT_EQ(messages[0].role, "system") << e.what_without_backtrace();
        continue;
      }
      EXPECT_EQ(prompt, item.at("prompt").get<std::string>())
          << family.at("name") << item.at("messages");
      ++compared;
    }
    EXPECT_GT(compared, 20) << family.at("name");
  }
}

TEST(Chat, FallsBackOnTheTypeOfTheModel) {
  const std::vector<Message> messages{{"user", "Hi"}};
  const Tokenizer plain = tokenizer_with("", {"<s>", "</s>"});
  EXPECT_EQ(format_chat(plain, "llama", messages, true), "<s>[INST] Hi [/INST]");
  EXPECT_EQ(format_chat(plain, "mistral", messages, true), "<s>[INST] Hi [/INST]");
  EXPECT_EQ(format_chat(plain, "qwen3", messages, true),
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(format_chat(plain, "qwen2", messages, false),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n");
  const Tokenizer chatml = tokenizer_with("", {"<s>", "</s>", "<|im_start|>"});
  EXPECT_EQ(format_chat(chatml, "llama", messages, false), "<|im_start|>user\nHi<|im_end|>\n");
  EXPECT_THROW(format_chat(plain, "gpt2", messages, true), c10::ValueError);
}

TEST(Chat, RefusesWhatItDoesNotKnow) {
  const Tokenizer unknown = tokenizer_with("{{ messages }}", {"<s>", "</s>"});
  EXPECT_THROW(format_chat(unknown, "llama", {{"user", "Hi"}}, true), c10::ValueError);
  const Tokenizer plain = tokenizer_with("", {"<s>", "</s>"});
  EXPECT_THROW(format_chat(plain, "qwen3", {{"tool", "Hi"}}, true), c10::ValueError);
  EXPECT_THROW(format_chat(plain, "qwen3", {}, true), c10::ValueError);
}

TEST(Chat, SetsTheDateThatIsAskedFor) {
  const Tokenizer llama31 =
      tokenizer_with("<|start_header_id|> Cutting Knowledge Date: {{ strftime_now('%d %b %Y') }}",
                     {"<s>", "</s>"});
  ChatOptions options;
  options.date = "01 Feb 2026";
  EXPECT_NE(format_chat(llama31, "", {{"user", "Hi"}}, options).find("Today Date: 01 Feb 2026\n"),
            std::string::npos);
}

}  // namespace
}  // namespace schmidt::text
