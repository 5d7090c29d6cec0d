// Chat formats against transformers' apply_chat_template.
#include "schmidt/text/chat.h"

#include <algorithm>
#include <tuple>

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

// transformers' templates know the tokens that the tokenizer names, not those of the model's ids.
TEST(Chat, ATokenThatTheTokenizerDoesNotNameIsNoVariable) {
  const std::string source = "{{ bos_token }}|{{ messages[0].content }}{{ messages[0].note }}";
  const auto text = [&](const json& config) {
    const test::TemporaryFolder folder;
    test::write_file(folder / "tokenizer.json",
                     R"({"model": {"vocab": {"<s>": 0, "</s>": 1}, "merges": []}})");
    test::write_file(folder / "tokenizer_config.json", config.dump());
    test::write_file(folder / "config.json", R"({"bos_token_id": 0, "eos_token_id": -1})");
    test::write_file(folder / "chat_template.jinja", source);
    return format_chat(Tokenizer::load(folder.path()), "", {{"user", "Q", {{"note", "!"}}}}, false);
  };
  EXPECT_EQ(text({{"bos_token", "<s>"}}), "<s>|Q!");
  EXPECT_EQ(text({{"bos_token", nullptr}}), "|Q!");
  EXPECT_EQ(text({{"tokenizer_class", "PreTrainedTokenizerFast"}}), "|Q!");
  EXPECT_EQ(text({{"tokenizer_class", "LlamaTokenizer"}}), "<s>|Q!");
}

TEST(Chat, WritesWhatTheTemplatesWrite) {
  const json truths = json::parse(test::read_file(test::text_oracle("chats.json")));
  ASSERT_GE(truths.size(), 20u);
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
      EXPECT_EQ(format_chat(tokenizer, "", messages, options), item.at("prompt").get<std::string>())
          << family.at("name") << item.at("messages");
      ++compared;
    }
    EXPECT_GT(compared, 20) << family.at("name");
  }
}

// The templates that stand in for missing ones are those of the families.
TEST(Chat, WritesTheFamilysFormatWhereTheTemplateIsMissing) {
  const json truths = json::parse(test::read_file(test::text_oracle("chats.json")));
  const std::vector<std::tuple<std::string, std::string, std::string>> kFamilies = {
      {"qwen3", "qwen3", ""},
      {"qwen2", "qwen2", ""},
      {"llama3", "llama", "<|start_header_id|>"},
      {"chatml", "llama", "<|im_start|>"},
      {"llama2", "llama", ""},
      {"mistral-v0.3", "mistral", "[INST]"},
      {"mistral-v0.2", "mistral", ""}};
  for (const auto& [name, model_type, token] : kFamilies) {
    std::vector<std::string> tokens = {"<s>", "</s>"};
    if (!token.empty()) tokens.push_back(token);
    const Tokenizer tokenizer = tokenizer_with("", tokens);
    const auto family = std::find_if(truths.begin(), truths.end(),
                                     [&n = name](const json& t) { return t.at("name") == n; });
    ASSERT_NE(family, truths.end()) << name;
    for (const json& item : family->at("cases")) {
      std::vector<Message> messages;
      for (const json& m : item.at("messages")) messages.push_back({m.at("role"), m.at("content")});
      ChatOptions options;
      options.generation_prompt = item.at("generation_prompt");
      options.thinking = item.at("thinking");
      if (item.at("prompt").is_null()) {
        EXPECT_THROW(format_chat(tokenizer, model_type, messages, options), c10::ValueError);
      } else if (messages.size() > 1 || messages[0].role != "system") {
        EXPECT_EQ(format_chat(tokenizer, model_type, messages, options),
                  item.at("prompt").get<std::string>())
            << name << item.at("messages");
      }
    }
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
  const Tokenizer unknown = tokenizer_with("a\n{{ messages | sort }}", {"<s>", "</s>"});
  try {
    format_chat(unknown, "llama", {{"user", "Hi"}}, true);
    FAIL() << "expected a refusal";
  } catch (const c10::ValueError& e) {
    EXPECT_STREQ(e.what_without_backtrace(),
                 "[chat_template] line 2: the filter \"sort\" is not supported");
  }
  const Tokenizer plain = tokenizer_with("", {"<s>", "</s>"});
  EXPECT_THROW(format_chat(plain, "qwen3", {{"tool", "Hi"}}, true), c10::ValueError);
  EXPECT_THROW(format_chat(plain, "qwen3", {}, true), c10::ValueError);
}

TEST(Chat, TellsConversationsThatAreToBlameFromTemplatesThatAre) {
  const Tokenizer plain = tokenizer_with("", {"<s>", "</s>"});
  EXPECT_EQ(chat_refusal(plain, "llama", {{"user", "a"}, {"assistant", "b"}}), std::nullopt);
  const auto refused = chat_refusal(plain, "llama", {{"user", "a"}, {"user", "b"}});
  ASSERT_TRUE(refused);
  EXPECT_NE(refused->find("in turn"), std::string::npos) << *refused;
  EXPECT_THROW(chat_refusal(plain, "gpt2", {{"user", "a"}, {"user", "b"}}), c10::ValueError);
}

TEST(Chat, SetsTheDateThatIsAskedFor) {
  const Tokenizer asks = tokenizer_with(
      "{{ date_string if date_string is defined }} {{ strftime_now('%Y-%m-%d, %A') }}",
      {"<s>", "</s>"});
  ChatOptions options;
  options.date = "01 Feb 2026";
  EXPECT_EQ(format_chat(asks, "", {{"user", "Hi"}}, options), "01 Feb 2026 2026-02-01, Sunday");
}

}  // namespace
}  // namespace schmidt::text
