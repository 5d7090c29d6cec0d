#include "schmidt/serve/request.h"

#include <gtest/gtest.h>

#include "schmidt/serve/api_error.h"
#include "schmidt/serve/fields.h"

#include "tests/serve/served.h"

namespace schmidt::serve {
namespace {

class RequestTest : public testing::Test {
 protected:
  CompletionRequest completion(const std::string& body) const {
    return parse_completion(parse_body(body), model_, limits_);
  }
  ChatRequest chat(const std::string& body) const { return parse_chat(parse_body(body), limits_); }

  void refuses(const std::string& body, const std::string& part) const {
    const bool is_chat = body.find("messages") != std::string::npos;
    try {
      is_chat ? (void)chat(body) : (void)completion(body);
      ADD_FAILURE() << "taken: " << body;
    } catch (const ApiError& e) {
      EXPECT_EQ(e.status(), 400) << body;
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << body << "\n" << e.what();
    }
  }

  const ServedModel model_ = test::tiny_served_model();
  const RequestLimits limits_;
};

TEST_F(RequestTest, PromptsAreTextsOrIds) {
  using Ids = std::vector<int64_t>;
  EXPECT_EQ(completion(R"({"prompt": "a"})").prompts, (std::vector<Prompt>{"a"}));
  EXPECT_EQ(completion(R"({"prompt": ["a", ""]})").prompts, (std::vector<Prompt>{"a", ""}));
  EXPECT_EQ(completion(R"({"prompt": [1, 2]})").prompts, (std::vector<Prompt>{Ids{1, 2}}));
  EXPECT_EQ(completion(R"({"prompt": [[1], [2, 3]]})").prompts,
            (std::vector<Prompt>{Ids{1}, Ids{2, 3}}));
}

TEST_F(RequestTest, TheHarnessIsUnderstood) {
  const CompletionRequest request = completion(
      R"({"model": "tiny", "prompt": [[1,2,3]], "temperature": 0, "max_tokens": 1, "logprobs": 1,
          "seed": 1234, "echo": true})");
  EXPECT_TRUE(request.echo);
  EXPECT_EQ(request.options.max_tokens, 1);
  EXPECT_EQ(request.options.logprobs, 1);
  EXPECT_EQ(request.options.seed, 1234);
  EXPECT_EQ(request.options.sampling.temperature, 0.0);
}

TEST_F(RequestTest, OptionsHaveTheDefaultsOfTheProtocol) {
  const AnswerOptions options = completion(R"({"prompt": "a"})").options;
  EXPECT_EQ(options.n, 1);
  EXPECT_FALSE(options.max_tokens.has_value());
  EXPECT_EQ(options.sampling.temperature, 1.0);
  EXPECT_EQ(options.sampling.top_p, 1.0);
  EXPECT_EQ(options.sampling.top_k, 0);
  EXPECT_FALSE(options.seed || options.logprobs || options.stream || options.include_usage);
  EXPECT_EQ(completion(R"({"prompt": "a", "stop": "x", "n": 2})").options.stop,
            std::vector<std::string>{"x"});
  EXPECT_EQ(completion(R"({"prompt": "a", "stop": ["x", "y"], "logit_bias": {}, "best_of": 1,
                           "presence_penalty": 0.0, "user": "u", "seed": -3})")
                .options.stop.size(),
            2);
  EXPECT_TRUE(completion(R"({"prompt": "a", "stream": true,
                             "stream_options": {"include_usage": true}})")
                  .options.include_usage);
}

TEST_F(RequestTest, ChatsAreMessagesWithTextOrParts) {
  const ChatRequest request = chat(
      R"({"messages": [{"role": "developer", "content": "s"},
                       {"role": "user", "content": [{"type": "text", "text": "a"},
                                                    {"type": "text", "text": "b"}]},
                       {"role": "assistant", "content": null}],
          "max_completion_tokens": 5, "logprobs": true, "top_logprobs": 2})");
  ASSERT_EQ(request.messages.size(), 3);
  EXPECT_EQ(request.messages[0].role, "system");
  EXPECT_EQ(request.messages[1].content, "ab");
  EXPECT_EQ(request.messages[2].content, "");
  EXPECT_EQ(request.options.max_tokens, 5);
  EXPECT_EQ(request.options.logprobs, 2);
}

TEST_F(RequestTest, RefusesInOneLineThatNamesTheField) {
  refuses(R"({})", "prompt");
  refuses(R"({"prompt": null})", "prompt");
  refuses(R"({"prompt": 3})", "prompt");
  refuses(R"({"prompt": []})", "prompt");
  refuses(R"({"prompt": [-1]})", "prompt");
  refuses(R"({"prompt": [264]})", "[0, 264)");
  refuses(R"({"prompt": [[1], [264]]})", "prompt[1]");
  refuses(R"({"prompt": ["a", [1]]})", "prompt[1]");
  refuses(R"({"prompt": [1, "a"]})", "prompt");
  refuses(R"({"prompt": [[[1]]]})", "prompt[0]");
  refuses(R"({"prompt": "a", "n": 1000000})", "n: expected an integer in [1, 128]");
  refuses(R"({"prompt": "a", "n": 0})", "n:");
  refuses(R"({"prompt": "a", "max_tokens": -1})", "max_tokens");
  refuses(R"({"prompt": "a", "max_tokens": "7"})", "max_tokens");
  refuses(R"({"prompt": "a", "max_tokens": 1.5})", "max_tokens");
  refuses(R"({"prompt": "a", "logprobs": -1})", "logprobs");
  refuses(R"({"prompt": "a", "logprobs": 1000000})", "logprobs");
  refuses(R"({"prompt": "a", "logprobs": true})", "logprobs");
  refuses(R"({"prompt": "a", "temperature": -0.1})", "temperature");
  refuses(R"({"prompt": "a", "temperature": NaN})", "JSON");
  refuses(R"({"prompt": "a", "temperature": "hot"})", "temperature");
  refuses(R"({"prompt": "a", "top_p": 0})", "top_p");
  refuses(R"({"prompt": "a", "top_p": 1.01})", "top_p");
  refuses(R"({"prompt": "a", "top_k": -2})", "top_k");
  refuses(R"({"prompt": "a", "stop": 7})", "stop");
  refuses(R"({"prompt": "a", "stop": ["a", 7]})", "stop");
  refuses(R"({"prompt": "a", "seed": 1.5})", "seed");
  refuses(R"({"prompt": "a", "stream": 1})", "stream");
  refuses(R"({"prompt": "a", "stream_options": 1})", "stream_options");
  refuses(R"({"prompt": "a", "echo": "true"})", "echo");
  refuses(R"({"prompt": "a", "suffix": "b"})", "suffix");
  refuses(R"({"prompt": "a", "best_of": 3})", "best_of");
  refuses(R"({"prompt": "a", "logit_bias": {"7": 100}})", "logit_bias");
  refuses(R"({"prompt": "a", "presence_penalty": 0.5})", "presence_penalty");
  refuses("{\"prompt\": \"\xff\"}", "JSON");
  std::string many = "[";
  for (int i = 0; i < 1025; ++i) many += "\"a\",";
  many.back() = ']';
  refuses("{\"prompt\": " + many + "}", "at most 1024 prompts");
  refuses(R"({"prompt": "a", "min_tokens": 3})", "min_tokens");
  refuses(R"({"prompt": "a", "stop_token_ids": [5]})", "stop_token_ids");
  refuses(R"({"prompt": "a", "guided_json": {}})", "guided_json");
  const std::string chat_of_one = R"({"messages": [{"role": "user", "content": "a"}], )";
  for (const char* field : {R"("chat_template_kwargs": {"enable_thinking": false})",
                            R"("chat_template": "x")", R"("continue_final_message": true)",
                            R"("add_generation_prompt": false)", R"("reasoning_effort": "low")"}) {
    const std::string text = field;
    refuses(chat_of_one + text + "}", text.substr(1, text.find('"', 1) - 1));
  }
  refuses(R"({"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]})",
          "messages[0].tool_calls");
  refuses(R"({"messages": []})", "messages");
  refuses(R"({"messages": {}})", "messages");
  refuses(R"({"messages": [7]})", "messages[0]");
  refuses(R"({"messages": [{"content": "a"}]})", "messages[0].role");
  refuses(R"({"messages": [{"role": "wizard", "content": "a"}]})", "messages[0].role");
  refuses(R"({"messages": [{"role": "user"}]})", "messages[0].content");
  refuses(R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
          "messages[0].content[0].type");
  refuses(R"({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 3})", "top_logprobs");
  refuses(R"({"messages": [{"role": "user", "content": "a"}], "tools": [{}]})", "tools");
  refuses(R"({"messages": [{"role": "user", "content": "a"}],
              "response_format": {"type": "json_object"}})",
          "response_format");
}

}  // namespace
}  // namespace schmidt::serve
