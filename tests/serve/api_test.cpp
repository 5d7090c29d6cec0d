#include "schmidt/serve/api.h"

#include <future>
#include <set>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "tests/serve/served.h"

namespace schmidt::serve {
namespace {

using nlohmann::json;

// A client in the same process.
class Client : public Reply {
 public:
  void send(HttpResponse response) override {
    response_ = std::move(response);
    done_.set_value();
  }
  void stream(std::string piece) override { events_ += piece; }
  void end_stream() override { done_.set_value(); }
  void run(std::function<void()> work) override { work(); }
  void on_leave(std::function<void()> left) override { left_ = std::move(left); }

  bool has_any() const { return !response_.body.empty() || !events_.empty(); }
  HttpResponse response() {
    done_.get_future().wait();
    return response_;
  }
  // The events of a stream, without "[DONE]".
  std::vector<json> events() {
    done_.get_future().wait();
    std::vector<json> all;
    std::istringstream lines(events_);
    bool ended = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.empty()) continue;
      EXPECT_TRUE(line.starts_with("data: ")) << line;
      EXPECT_FALSE(ended) << line;
      ended = line == "data: [DONE]";
      if (!ended) all.push_back(json::parse(line.substr(6)));
    }
    EXPECT_TRUE(ended);
    return all;
  }

 private:
  HttpResponse response_;
  std::string events_;
  std::promise<void> done_;
  std::function<void()> left_;
};

class ApiTest : public testing::Test {
 protected:
  static infer::SchedulerOptions options() {
    return {.slots = 4,
            .context = 128,
            .max_waiting = 16,
            .prefill_tokens = 16,
            .eos_ids = {2},
            .never_drawn = {259, 260, 261, 262, 263}};
  }

  std::shared_ptr<Client> start(const std::string& method, const std::string& path,
                                const std::string& body = "", const std::string& key = "") {
    auto client = std::make_shared<Client>();
    api_.handle({method, path, key, body}, client);
    return client;
  }

  std::shared_ptr<Client> query(const std::string& text) {
    auto client = std::make_shared<Client>();
    api_.handle({"GET", "/tokenizer_info", "", "", text}, client);
    return client;
  }

  json post(const std::string& path, const json& body, int status = 200) {
    const HttpResponse response = start("POST", path, body.dump())->response();
    EXPECT_EQ(response.status, status) << response.body;
    return json::parse(response.body);
  }
  json complete(const json& body, int status = 200) {
    return post("/v1/completions", body, status);
  }

  const model::Model model_ = test::load_tiny_model();
  HostedModels models_;
  infer::Scheduler& scheduler_ =
      models_.add(test::tiny_served_model(), model_, options()).scheduler;
  Api api_{models_, {.seed = 7}};
};

// n + 1 entries for n ids and one drawn token, the first null; one float in both places.
TEST_F(ApiTest, TheHarnessGetsAnEntryForEachTokenAndTheDrawnOne) {
  const std::vector<std::vector<int64_t>> prompts = {{70, 80, 90, 100}, {200, 3, 44}, {9}};
  const json answer = complete({{"model", "tiny"},
                                {"prompt", prompts},
                                {"temperature", 0},
                                {"max_tokens", 1},
                                {"logprobs", 1},
                                {"seed", 1234},
                                {"echo", true}});
  ASSERT_EQ(answer["choices"].size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const json& choice = answer["choices"][i];
    EXPECT_EQ(choice["index"], i);
    const json& logprobs = choice["logprobs"];
    const torch::Tensor log_p =
        torch::log_softmax(model_.forward(torch::tensor(prompts[i]).unsqueeze(0))[0], -1);
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
      EXPECT_EQ(logprobs[list].size(), prompts[i].size() + 1) << list;
    }
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    for (size_t t = 1; t <= prompts[i].size(); ++t) {
      const auto value = logprobs["token_logprobs"][t].get<double>();
      double best = -1e9;
      for (const json& other : logprobs["top_logprobs"][t])
        best = std::max(best, other.get<double>());
      const torch::Tensor row = log_p[static_cast<int64_t>(t) - 1];
      EXPECT_NEAR(best, row.max().item<double>(), 1e-4);
      if (t < prompts[i].size()) {
        EXPECT_NEAR(value, row[prompts[i][t]].item<double>(), 1e-4);
      } else {
        EXPECT_EQ(value, best);  // greedy, and bit for bit the same
      }
    }
  }
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 8);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 3);

  const json none =
      complete({{"prompt", prompts[0]}, {"max_tokens", 0}, {"logprobs", 1}, {"echo", true}});
  EXPECT_EQ(none["choices"][0]["logprobs"]["tokens"].size(), 4);
}

TEST_F(ApiTest, IdsAndTheirTextGetTheSameAnswer) {
  const json of_text = complete({{"prompt", "Hello"}, {"temperature", 0}, {"max_tokens", 6}});
  std::vector<int64_t> ids;
  for (const unsigned char c : std::string("Hello")) ids.push_back(c + 3);
  const json of_ids = complete({{"prompt", ids}, {"temperature", 0}, {"max_tokens", 6}});
  EXPECT_EQ(of_text["choices"], of_ids["choices"]);
  EXPECT_EQ(of_text["object"], "text_completion");
  EXPECT_EQ(of_text["model"], "tiny");
  const json echo = complete(
      {{"prompt", ids}, {"temperature", 0}, {"max_tokens", 6}, {"echo", true}, {"logprobs", 0}});
  const std::string text = of_text["choices"][0]["text"];
  EXPECT_EQ(echo["choices"][0]["text"], "Hello" + text);
  EXPECT_EQ(echo["choices"][0]["logprobs"]["text_offset"][3], 3);
  EXPECT_EQ(echo["choices"][0]["logprobs"]["text_offset"][5], 5);
}

// Rows of the embedding that stand for no token are ids all the same.
TEST_F(ApiTest, IdsWithoutATokenHaveNoText) {
  const json answer = complete({{"prompt", {70, 263, 80}},
                                {"max_tokens", 1},
                                {"ignore_eos", true},
                                {"logprobs", 20},
                                {"echo", true}});
  const json& choice = answer["choices"][0];
  EXPECT_TRUE(choice["text"].get<std::string>().starts_with("CM"));
  EXPECT_EQ(choice["logprobs"]["tokens"][1], "");
  EXPECT_EQ(choice["logprobs"]["text_offset"], (std::vector<int>{0, 1, 1, 2}));
}

TEST_F(ApiTest, SeedsRepeatAnswersAndChoicesDiffer) {
  const json body = {{"prompt", "abc"}, {"max_tokens", 12}, {"n", 3}, {"seed", 5}};
  const json first = complete(body), second = complete(body);
  EXPECT_EQ(first["choices"], second["choices"]);
  EXPECT_NE(first["choices"][0]["text"], first["choices"][1]["text"]);
  EXPECT_EQ(first["usage"]["prompt_tokens"], 3);
  json other = body;
  other["seed"] = 6;
  EXPECT_NE(complete(other)["choices"], first["choices"]);
  other.erase("seed");
  EXPECT_NE(complete(other)["choices"], complete(other)["choices"]);
}

TEST_F(ApiTest, StreamsAreThePiecesOfTheWhole) {
  json body = {{"prompt", {"abc", "xyz"}},
               {"max_tokens", 20},
               {"n", 2},
               {"seed", 5},
               {"logprobs", 2},
               {"echo", true},
               {"stop", {"\x07", "q"}}};
  const json whole = complete(body);
  body["stream"] = true;
  body["stream_options"] = {{"include_usage", true}};
  const std::vector<json> events = start("POST", "/v1/completions", body.dump())->events();
  std::map<int, std::string> texts;
  std::map<int, json> reasons;
  std::map<int, size_t> tokens;
  for (const json& event : events) {
    EXPECT_EQ(event["id"], events[0]["id"]);
    for (const json& choice : event["choices"]) {
      const int index = choice["index"];
      texts[index] += choice["text"].get<std::string>();
      tokens[index] += choice["logprobs"]["tokens"].size();
      EXPECT_TRUE(reasons[index].is_null());  // none after the end
      reasons[index] = choice["finish_reason"];
    }
  }
  for (const json& choice : whole["choices"]) {
    const int index = choice["index"];
    EXPECT_EQ(texts[index], choice["text"]);
    EXPECT_EQ(reasons[index], choice["finish_reason"]);
    EXPECT_EQ(tokens[index], choice["logprobs"]["tokens"].size());
  }
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
  EXPECT_TRUE(events.front()["usage"].is_null());
}

TEST_F(ApiTest, ChatsRenderTheTemplate) {
  const json messages = {{{"role", "user"}, {"content", "Hi"}}};
  const json body = {{"messages", messages},
                     {"max_tokens", 8},
                     {"temperature", 0},
                     {"logprobs", true},
                     {"top_logprobs", 2}};
  const json answer = post("/v1/chat/completions", body);
  EXPECT_EQ(answer["object"], "chat.completion");
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  const json completion =
      complete({{"prompt", "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
                {"max_tokens", 8},
                {"temperature", 0}});
  EXPECT_EQ(choice["message"]["content"], completion["choices"][0]["text"]);
  ASSERT_EQ(choice["logprobs"]["content"].size(), answer["usage"]["completion_tokens"]);
  EXPECT_EQ(choice["logprobs"]["content"][0]["top_logprobs"].size(), 2);

  json streamed = body;
  streamed["stream"] = true;
  std::string text;
  const std::vector<json> events = start("POST", "/v1/chat/completions", streamed.dump())->events();
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  for (const json& event : events) text += event["choices"][0]["delta"].value("content", "");
  EXPECT_EQ(text, choice["message"]["content"]);
  EXPECT_EQ(events.back()["choices"][0]["finish_reason"], choice["finish_reason"]);
}

TEST_F(ApiTest, AStopStringEndsTheAnswerBeforeIt) {
  const json body = {{"prompt", "abc"}, {"max_tokens", 30}, {"seed", 3}};
  const std::string whole = complete(body)["choices"][0]["text"];
  ASSERT_GE(whole.size(), 8);
  // A stop of whole characters from the middle of the answer.
  size_t begin = whole.size() / 2;
  while ((static_cast<unsigned char>(whole[begin]) & 0xC0U) == 0x80U) ++begin;
  const std::string stop = whole.substr(begin);
  json stopped = body;
  stopped["stop"] = stop;
  const json choice = complete(stopped)["choices"][0];
  EXPECT_EQ(choice["text"], whole.substr(0, whole.find(stop)));
  EXPECT_EQ(choice["finish_reason"], "stop");
}

TEST_F(ApiTest, TokenizerEndpoints) {
  const json info = json::parse(start("GET", "/tokenizer_info")->response().body);
  EXPECT_EQ(info["eos_token"], "<|im_end|>");
  EXPECT_EQ(info["bos_token"], "<|im_start|>");
  EXPECT_NE(info["chat_template"].get<std::string>().find("im_start"), std::string::npos);
  const json tokens =
      post("/tokenize", {{"prompt", "Hi<|im_end|>"}, {"add_special_tokens", false}});
  EXPECT_EQ(tokens["tokens"], (std::vector<int64_t>{'H' + 3, 'i' + 3, 2}));
  EXPECT_EQ(tokens["count"], 3);
  EXPECT_EQ(post("/detokenize", {{"tokens", tokens["tokens"]}})["prompt"], "Hi<|im_end|>");
  EXPECT_EQ(
      post("/tokenize", {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}})["tokens"].size(),
      1 + 4 + 1 + 2 + 1 + 1 + 1 + 10);
  post("/tokenize", {{"prompt", 7}}, 400);
  post("/detokenize", {{"tokens", {9999}}}, 400);
  post("/detokenize", json::object(), 400);
}

TEST_F(ApiTest, ErrorsAreObjectsWithTheirStatus) {
  const auto code = [](const json& answer) {
    EXPECT_TRUE(answer["error"]["message"].is_string());
    EXPECT_TRUE(answer["error"]["type"].is_string());
    return answer["error"]["code"].get<std::string>();
  };
  EXPECT_EQ(code(complete({{"prompt", ""}}, 400)), "empty_prompt");
  EXPECT_EQ(code(complete({{"prompt", json::array({"a", ""})}}, 400)), "empty_prompt");
  EXPECT_EQ(code(complete({{"prompt", std::string(129, 'a')}}, 400)), "context_length_exceeded");
  EXPECT_EQ(code(complete({{"prompt", "a"}, {"model", "gpt"}}, 404)), "model_not_found");
  EXPECT_EQ(code(complete({{"prompt", "a"}, {"n", 1'000'000}}, 400)), "invalid_value");
  EXPECT_EQ(
      code(post("/v1/chat/completions",
                {{"messages", {{{"role", "user"}, {"content", std::string(200, 'a')}}}}}, 400)),
      "context_length_exceeded");
  EXPECT_EQ(code(post("/nothing", json::object(), 404)), "unknown_path");
  const HttpResponse method = start("GET", "/v1/completions")->response();
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(method.headers.at(0), (std::pair<std::string, std::string>{"Allow", "POST"}));
  // 17 answers, where 16 may wait: never to be had.
  EXPECT_EQ(code(complete({{"prompt", "a"}, {"n", 17}}, 400)), "invalid_value");
  scheduler_.close();
  EXPECT_EQ(code(complete({{"prompt", "a"}}, 503)), "shutting_down");
}

TEST_F(ApiTest, ATextTooLongForTheContextIsRefusedBeforeItIsTokenized) {
  const std::string huge(5'000'000, 'a');
  const json chat = {{"messages", {{{"role", "user"}, {"content", huge}}}}};
  for (const auto& [path, body] :
       {std::pair<std::string, json>{"/v1/completions", {{"prompt", huge}}},
        {"/v1/completions", {{"prompt", {"a", huge}}}},
        {"/v1/chat/completions", chat},
        {"/tokenize", {{"prompt", huge}}},
        {"/tokenize", chat}}) {
    const json error = post(path, body, 400)["error"];
    EXPECT_EQ(error["code"], "context_length_exceeded");
    EXPECT_NE(error["message"].get<std::string>().find("bytes, got 5000"), std::string::npos)
        << error;
  }
}

TEST_F(ApiTest, AnswersAreRenderedWhereTheyAreSent) {
  // A client that lets the work lie until the answers have ended.
  class LateClient : public Client {
   public:
    void run(std::function<void()> work) override { works_.push_back(std::move(work)); }
    void catch_up() {
      for (const auto& work : works_) work();
    }

   private:
    std::vector<std::function<void()>> works_;
  };
  for (const bool stream : {false, true}) {
    const json body = {{"prompt", "abc"}, {"max_tokens", 9}, {"logprobs", 5},   {"echo", true},
                       {"n", 2},          {"seed", 1},       {"stream", stream}};
    const auto late = std::make_shared<LateClient>();
    api_.handle({"POST", "/v1/completions", "", body.dump()}, late);
    ASSERT_TRUE(scheduler_.wait_idle(std::chrono::seconds(60)));
    EXPECT_FALSE(late->has_any());
    late->catch_up();
    const auto soon = start("POST", "/v1/completions", body.dump());
    if (stream) {
      const std::vector<json> events = late->events();
      const std::vector<json> expected = soon->events();
      EXPECT_EQ(events.size(), expected.size());
      EXPECT_EQ(events.at(0)["choices"][0]["logprobs"]["tokens"][0], "a");
    } else {
      EXPECT_EQ(json::parse(late->response().body)["choices"],
                json::parse(soon->response().body)["choices"]);
    }
  }
}

TEST_F(ApiTest, AnAnswerThatCannotBeWrittenIsNotDrawnToItsEnd) {
  // A client whose first piece finds no memory.
  class FullClient : public Client {
   public:
    void stream(std::string piece) override {
      if (!std::exchange(failed_, true)) throw std::bad_alloc();
      last = std::move(piece);
    }
    std::string last;

   private:
    bool failed_ = false;
  };
  const json body = {
      {"prompt", "abc"}, {"max_tokens", 120}, {"ignore_eos", true}, {"seed", 1}, {"stream", true}};
  const auto full = std::make_shared<FullClient>();
  api_.handle({"POST", "/v1/completions", "", body.dump()}, full);
  full->response();
  EXPECT_NE(full->last.find("could not be written"), std::string::npos) << full->last;
  EXPECT_LT(scheduler_.stats().generated_tokens, 20);
}

TEST_F(ApiTest, ThePromptMayFillTheContext) {
  const json answer = complete({{"prompt", std::string(128, 'a')}, {"max_tokens", 5}});
  EXPECT_EQ(answer["usage"]["completion_tokens"], 1);
}

TEST_F(ApiTest, TheKeyIsAskedForEverywhereButAtHealth) {
  Api locked(models_, {.api_key = "secret"});
  const auto status = [&](const std::string& path, const std::string& key) {
    auto client = std::make_shared<Client>();
    locked.handle({"GET", path, key, ""}, client);
    return client->response().status;
  };
  EXPECT_EQ(status("/v1/models", "Bearer secret"), 200);
  EXPECT_EQ(status("/v1/models", "bearer secret"), 200);
  EXPECT_EQ(status("/v1/models", "BEARER  secret"), 200);
  for (const char* key : {"", "secret", "Bearer ", "Bearer", "Bearersecret", "Bearer secreT",
                          "Bearer secrets", "Basic x"}) {
    EXPECT_EQ(status("/v1/models", key), 401) << key;
    EXPECT_EQ(status("/metrics", key), 401) << key;
  }
  EXPECT_EQ(status("/health", ""), 200);
  // Without a key of the server an empty one is as good as any.
  EXPECT_EQ(start("GET", "/v1/models", "", "Bearer ")->response().status, 200);
}

TEST_F(ApiTest, ThePageLoadsNothingFromElsewhere) {
  const HttpResponse page = start("GET", "/")->response();
  EXPECT_EQ(page.status, 200);
  EXPECT_TRUE(page.content_type.starts_with("text/html"));
  EXPECT_TRUE(page.body.starts_with("<!DOCTYPE html>"));
  EXPECT_TRUE(page.body.ends_with("</html>\n"));
  for (const char* outside : {"http://", "https://", "src=", "@import", "url("}) {
    EXPECT_EQ(page.body.find(outside), std::string::npos) << outside;
  }
  EXPECT_NE(page.body.find("prefers-color-scheme: dark"), std::string::npos);
}

TEST_F(ApiTest, MetricsAreTextForPrometheus) {
  complete({{"prompt", "abc"}, {"max_tokens", 2}, {"ignore_eos", true}});
  start("GET", "/v1/models")->response();
  start("GET", "/what\"ever")->response();
  scheduler_.wait_idle(std::chrono::seconds(10));
  const HttpResponse response = start("GET", "/metrics")->response();
  EXPECT_TRUE(response.content_type.starts_with("text/plain; version=0.0.4"));
  for (const char* line :
       {"schmidt_slots{model=\"tiny\"} 4\n", "schmidt_generated_tokens_total{model=\"tiny\"} 2\n",
        "schmidt_prompt_tokens_total{model=\"tiny\"} 3\n",
        "schmidt_answers_completed_total{model=\"tiny\"} 1\n",
        "schmidt_http_requests_total{path=\"/v1/completions\",status=\"200\"} 1\n",
        "schmidt_http_requests_total{path=\"other\",status=\"404\"} 1\n",
        "# TYPE schmidt_time_to_first_token_seconds summary\n"}) {
    EXPECT_NE(response.body.find(line), std::string::npos) << line << response.body;
  }
}

// Two models of other weights, side by side.
class TwoModelsTest : public ApiTest {
 protected:
  TwoModelsTest() { models_.add(test::tiny_served_model("a/small"), other_, options()); }

  // The greedy answer of a model on its own.
  static std::string text_of(const model::Model& model, const std::string& prompt) {
    HostedModels alone;
    alone.add(test::tiny_served_model(), model, options());
    Api api(alone, {});
    const auto client = std::make_shared<Client>();
    api.handle({"POST", "/v1/completions", "", greedy(prompt).dump()}, client);
    return json::parse(client->response().body)["choices"][0]["text"];
  }
  static json greedy(const std::string& prompt) {
    return {{"prompt", prompt}, {"temperature", 0}, {"max_tokens", 16}, {"ignore_eos", true}};
  }
  json greedy_of(const std::string& model, const std::string& prompt) {
    json body = greedy(prompt);
    body["model"] = model;
    return complete(body);
  }

  const model::Model other_ = test::load_tiny_model(2);
};

TEST_F(TwoModelsTest, TheModelsNameChoosesWhoAnswers) {
  const std::string first = text_of(model_, "abc"), second = text_of(other_, "abc");
  ASSERT_NE(first, second);
  for (const auto& [name, text] : {std::pair<std::string, std::string>{"tiny", first},
                                   {"models/tiny", first},
                                   {"", first},
                                   {"a/small", second},
                                   {"models/a/small", second}}) {
    const json answer = greedy_of(name, "abc");
    EXPECT_EQ(answer["choices"][0]["text"], text) << name;
    EXPECT_EQ(answer["model"], text == first ? "tiny" : "a/small");
  }
  EXPECT_EQ(complete(greedy("abc"))["choices"][0]["text"], first);  // no name: the first
  const json chat =
      post("/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", ""}}}},
                                    {"model", "a/small"},
                                    {"max_tokens", 1}});
  EXPECT_EQ(chat["model"], "a/small");
}

TEST_F(TwoModelsTest, AnUnknownModelIsNotFound) {
  const json messages = {{{"role", "user"}, {"content", "Hi"}}};
  for (const auto& [path, body] :
       {std::pair<std::string, json>{"/v1/completions", {{"prompt", "a"}}},
        {"/v1/completions", json::object()},  // whatever else is wrong
        {"/v1/chat/completions", {{"messages", messages}}},
        {"/tokenize", {{"prompt", "a"}}},
        {"/detokenize", {{"tokens", {70}}}}}) {
    for (const char* name : {"small", "../secret", "TINY"}) {
      json asked = body;
      asked["model"] = name;
      const json error = post(path, asked, 404)["error"];
      EXPECT_EQ(error["code"], "model_not_found");
      EXPECT_EQ(error["message"],
                std::string("model: expected \"tiny\" or \"a/small\", got \"") + name + "\"");
    }
    json asked = body;
    asked["model"] = 7;
    EXPECT_EQ(post(path, asked, 400)["error"]["code"], "invalid_value");
  }
  EXPECT_EQ(query("model=nobody")->response().status, 404);
}

TEST_F(TwoModelsTest, ListsAllInOrder) {
  const json list = json::parse(start("GET", "/v1/models")->response().body)["data"];
  ASSERT_EQ(list.size(), 2);
  EXPECT_EQ(list[0]["id"], "tiny");
  EXPECT_EQ(list[1]["id"], "a/small");
  EXPECT_EQ(list[1]["object"], "model");
  const json health = json::parse(start("GET", "/health")->response().body);
  EXPECT_EQ(health["slots"], 8);
}

TEST_F(TwoModelsTest, TheTokenizerIsThatOfTheModel) {
  ServedModel served = test::tiny_served_model("swapped");
  const test::TemporaryFolder folder;
  test::write_byte_tokenizer(folder.path(), {.eos = "<|endoftext|>", .merges = {"a b"}});
  served.tokenizer = text::Tokenizer::load(folder.path());
  models_.add(std::move(served), other_, options());
  const auto eos = [&](const std::string& which) {
    return json::parse(query(which)->response().body)["eos_token"].get<std::string>();
  };
  EXPECT_EQ(eos(""), "<|im_end|>");
  EXPECT_EQ(eos("x=1&model=swapped"), "<|endoftext|>");
  EXPECT_EQ(eos("model=a%2Fsmall"), "<|im_end|>");
  const auto count = [&](const std::string& model) {
    return post("/tokenize", {{"prompt", "ab"}, {"model", model}})["count"].get<int>();
  };
  EXPECT_EQ(count("tiny"), 2);
  EXPECT_EQ(count("swapped"), 1);
  EXPECT_EQ(post("/detokenize", {{"tokens", {259}}, {"model", "swapped"}})["prompt"], "ab");
  EXPECT_EQ(post("/detokenize", {{"tokens", {259}}, {"model", "tiny"}})["prompt"], "");
}

TEST_F(TwoModelsTest, MetricsHaveTheModelsNameAndEachHeadOnce) {
  ServedModel odd = test::tiny_served_model("a \"b\" \\c\nd");
  models_.add(std::move(odd), other_, options());
  greedy_of("a/small", "abc");
  ASSERT_TRUE(models_.wait_idle(std::chrono::seconds(10)));
  const std::string text = start("GET", "/metrics")->response().body;
  for (const char* line : {"schmidt_generated_tokens_total{model=\"tiny\"} 0\n",
                           "schmidt_generated_tokens_total{model=\"a/small\"} 16\n",
                           "schmidt_slots{model=\"a \\\"b\\\" \\\\c\\nd\"} 4\n",
                           "schmidt_time_to_first_token_seconds_count{model=\"a/small\"} 1\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  // What stands under a head is of its metric, and no head comes twice.
  std::set<std::string> heads;
  std::istringstream lines(text);
  std::string metric;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# HELP ")) {
      metric = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_TRUE(heads.insert(metric).second) << metric;
    } else if (line.starts_with("# TYPE ")) {
      EXPECT_EQ(line.substr(7, line.find(' ', 7) - 7), metric);
    } else {
      EXPECT_TRUE(line.starts_with(metric)) << line;
    }
  }
}

TEST_F(TwoModelsTest, StreamsOfBothAtOnceAreNotExchanged) {
  constexpr int kPrompts = 6;
  std::vector<std::string> expected;
  for (int i = 0; i < kPrompts; ++i) {
    for (const model::Model* model : {&model_, &other_}) {
      expected.push_back(text_of(*model, "prompt " + std::to_string(i)));
    }
  }
  std::vector<std::shared_ptr<Client>> clients;
  for (int i = 0; i < kPrompts; ++i) {
    for (const char* name : {"tiny", "a/small"}) {
      json body = greedy("prompt " + std::to_string(i));
      body["model"] = name;
      body["stream"] = true;
      clients.push_back(start("POST", "/v1/completions", body.dump()));
    }
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    std::string text;
    for (const json& event : clients[i]->events()) {
      text += event["choices"][0]["text"].get<std::string>();
      EXPECT_EQ(event["model"], i % 2 == 0 ? "tiny" : "a/small");
    }
    EXPECT_EQ(text, expected[i]) << i;
  }
}

TEST_F(TwoModelsTest, EachHasItsOwnQueue) {
  json body = greedy("a");
  body["max_tokens"] = 120;
  body["n"] = 16;
  std::vector<std::shared_ptr<Client>> busy;
  for (int i = 0; i < 3; ++i) busy.push_back(start("POST", "/v1/completions", body.dump()));
  const HttpResponse full = busy.back()->response();
  EXPECT_EQ(full.status, 429) << full.body;
  EXPECT_EQ(greedy_of("a/small", "abc")["choices"][0]["finish_reason"], "length");
  scheduler_.cancel_all();
  ASSERT_TRUE(models_.wait_idle(std::chrono::seconds(60)));
}

TEST_F(TwoModelsTest, TheEndClosesAllBeforeItWaitsForAny) {
  json body = greedy("a");
  body["max_tokens"] = 120;
  body["n"] = 16;
  const auto running = start("POST", "/v1/completions", body.dump());
  models_.close();
  body["model"] = "a/small";  // idle, and closed all the same
  EXPECT_EQ(complete(body, 503)["error"]["code"], "shutting_down");
  EXPECT_FALSE(models_.wait_idle(std::chrono::milliseconds(0)));
  EXPECT_TRUE(models_.wait_idle(std::chrono::seconds(60)));
  EXPECT_EQ(running->response().status, 200);
}

TEST_F(TwoModelsTest, NamesDiffer) {
  EXPECT_THROW(models_.add(test::tiny_served_model("a/small"), other_, options()), c10::ValueError);
  EXPECT_EQ(models_.all().size(), 2);
}

}  // namespace
}  // namespace schmidt::serve
