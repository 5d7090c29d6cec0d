#include "schmidt/serve/server.h"

#include <atomic>
#include <thread>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/serve/client.h"
#include "tests/serve/served.h"

namespace schmidt::serve {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using test::ask;
using test::Connection;
using test::parse_answer;
using test::request_text;

class ServerTest : public testing::Test {
 protected:
  static ServeOptions options() {
    ServeOptions options;
    options.http.port = 0;
    options.http.max_body_bytes = 100'000;
    options.http.max_header_bytes = 4'000;
    options.slots = 3;
    options.context = 128;
    options.prefill_tokens = 16;
    return options;
  }

  void start(const ServeOptions& o = options()) {
    std::vector<LoadedModel> models;
    models.push_back({test::load_tiny_model(1), test::tiny_served_model("tiny")});
    models.push_back({test::load_tiny_model(2), test::tiny_served_model("small")});
    server_ = std::make_unique<Server>(std::move(models), o);
  }
  const infer::Scheduler& scheduler(size_t model = 0) const {
    return server_->models().all()[model].scheduler;
  }

  int port() const { return server_->port(); }
  test::Answer post(const std::string& path, const json& body) const {
    return ask(port(), "POST", path, body.dump());
  }
  // The server still answers.
  void expect_alive() const { EXPECT_EQ(ask(port(), "GET", "/health").status, 200); }

  bool becomes_true(const std::function<bool()>& condition) const {
    for (int i = 0; i < 500; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(10ms);
    }
    return false;
  }

  // Nothing runs or waits any more, soon.
  void expect_idle(size_t model = 0) const {
    EXPECT_TRUE(becomes_true([&] {
      const auto stats = scheduler(model).stats();
      return stats.running == 0 && stats.waiting == 0;
    }));
  }

  std::unique_ptr<Server> server_;
};

// An answer of as many tokens as the context has room for.
const json kLong = {{"prompt", "a"}, {"max_tokens", 120}, {"ignore_eos", true}, {"seed", 1}};

TEST_F(ServerTest, EveryEndpointAnswers) {
  start();
  EXPECT_EQ(json::parse(ask(port(), "GET", "/health").body)["status"], "ok");
  const test::Answer models = ask(port(), "GET", "/v1/models?x=1");
  EXPECT_EQ(json::parse(models.body)["data"][0]["id"], "tiny");
  EXPECT_EQ(models.headers.at("content-type"), "application/json");
  EXPECT_EQ(ask(port(), "GET", "/tokenizer_info").status, 200);
  EXPECT_EQ(ask(port(), "GET", "/metrics").status, 200);
  EXPECT_EQ(post("/tokenize", {{"prompt", "a"}}).status, 200);
  EXPECT_EQ(post("/detokenize", {{"tokens", {70}}}).status, 200);
  EXPECT_EQ(post("/v1/completions", {{"prompt", "abc"}}).status, 200);
  EXPECT_EQ(post("/v1/chat/completions",
                 {{"messages", {{{"role", "user"}, {"content", "Hi"}}}}, {"max_tokens", 4}})
                .status,
            200);
  EXPECT_EQ(ask(port(), "GET", "/etc/passwd").status, 404);
  EXPECT_EQ(ask(port(), "GET", "/../../etc/passwd").status, 404);
}

TEST_F(ServerTest, AStreamIsServerSentEvents) {
  start();
  json body = kLong;
  body["stream"] = true;
  const test::Answer answer = post("/v1/completions", body);
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.headers.at("content-type").starts_with("text/event-stream"));
  EXPECT_TRUE(answer.body.ends_with("\n\ndata: [DONE]\n\n")) << answer.body;
  std::string text;
  std::istringstream lines(answer.body);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty() || line == "data: [DONE]") continue;
    text += json::parse(line.substr(6))["choices"][0]["text"].get<std::string>();
  }
  EXPECT_EQ(text, json::parse(post("/v1/completions", kLong).body)["choices"][0]["text"]);

  // A client of HTTP/1.0 knows no chunks: the end of the connection is the end of the stream.
  Connection old(port());
  const std::string content = body.dump();
  old.send(fmt::format("POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{}",
                       content.size(), content));
  const test::Answer plain = parse_answer(old.receive_all());
  EXPECT_FALSE(plain.headers.contains("transfer-encoding"));
  EXPECT_TRUE(plain.body.ends_with("data: [DONE]\n\n"));
}

TEST_F(ServerTest, AConnectionServesManyRequestsOneAfterAnother) {
  start();
  Connection connection(port());
  const std::string health = "GET /health HTTP/1.1\r\nHost: here\r\n\r\n";
  for (int i = 0; i < 3; ++i) {
    connection.send(health);
    EXPECT_TRUE(connection.receive()->starts_with("HTTP/1.1 200"));
  }
  // Two at once are answered in order, and a body in chunks is as good as one with a length.
  const std::string chunked =
      "POST /tokenize HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\nConnection: close"
      "\r\n\r\n4\r\n{\"pr\r\nd\r\nompt\": \"abc\"}\r\n0\r\n\r\n";
  connection.send(health + chunked);
  const std::string all = connection.receive_all();
  EXPECT_TRUE(all.starts_with("HTTP/1.1 200"));
  EXPECT_NE(all.find("\"count\":3"), std::string::npos) << all;
}

TEST_F(ServerTest, ASenderMayWaitForLeave) {
  start();
  Connection connection(port());
  connection.send(
      "POST /tokenize HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\nContent-Length: 17\r\n"
      "Connection: close\r\n\r\n");
  EXPECT_EQ(connection.receive(), "HTTP/1.1 100 Continue\r\n\r\n");
  connection.send("{\"prompt\": \"abc\"}");
  EXPECT_EQ(parse_answer(connection.receive_all()).status, 200);
}

// What comes late leaves the socket ready to be read once more, with nothing in it.
TEST_F(ServerTest, AClientThatSendsInPiecesHasNotLeft) {
  start();
  for (int i = 0; i < 60; ++i) {
    const std::string request = request_text("POST", "/v1/completions", kLong.dump());
    Connection connection(port());
    for (size_t begin = 0; begin < request.size(); begin += 50) {
      connection.send(request.substr(begin, 50));
      if (i % 2 == 0) std::this_thread::sleep_for(100us);
    }
    ASSERT_EQ(parse_answer(connection.receive_all()).status, 200) << i;
  }
}

TEST_F(ServerTest, BodiesAndHeadersHaveLimits) {
  start();
  EXPECT_EQ(ask(port(), "POST", "/tokenize", std::string(100'001, ' ')).status, 413);
  const auto send = [&](const std::string& bytes) {
    Connection connection(port());
    connection.send(bytes);
    return parse_answer(connection.receive_all());
  };
  // Refused by its length alone: not a byte of the body is waited for.
  EXPECT_EQ(
      send("POST /tokenize HTTP/1.1\r\nHost: here\r\nContent-Length: 99999999999\r\n\r\n").status,
      413);
  std::string chunks =
      "POST /tokenize HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 30; ++i) chunks += "1000\r\n" + std::string(4096, ' ') + "\r\n";
  EXPECT_EQ(send(chunks).status, 413);
  const test::Answer header =
      send("GET /health HTTP/1.1\r\nX: " + std::string(5'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(header.status, 431);
  EXPECT_TRUE(json::parse(header.body)["error"]["message"].is_string());
  expect_alive();
}

TEST_F(ServerTest, GarbageIsRefused) {
  start();
  for (const std::string& bytes :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n"),
        std::string("GET\r\n\r\n"), std::string("\r\n\r\n\r\n\r\nx y z\r\n\r\n"),
        std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("POST /tokenize HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST /tokenize HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        std::string("POST /tokenize HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string(3'000, '\0')}) {
    Connection connection(port());
    connection.send(bytes);
    const test::Answer answer = parse_answer(connection.receive_all());
    EXPECT_EQ(answer.status, 400) << bytes.substr(0, 60) << answer.body;
  }
  expect_alive();
}

// Whose end nobody knows: what follows is not read as a request.
TEST_F(ServerTest, ABodyInAnUnknownEncodingEndsTheConnection) {
  start();
  Connection connection(port());
  connection.send(
      "POST /tokenize HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: gzip\r\n\r\n"
      "GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
  const std::string all = connection.receive_all();
  EXPECT_TRUE(all.starts_with("HTTP/1.1 501")) << all;
  EXPECT_EQ(all.find("HTTP/1.1 200"), std::string::npos) << all;
  expect_alive();
}

TEST_F(ServerTest, ASlowSenderIsCutOffAndNobodyWaitsForIt) {
  ServeOptions o = options();
  o.http.read_time = 300ms;
  o.http.idle_time = 300ms;
  start(o);
  Connection silent(port()), slow(port()), half(port());
  slow.send("GET /health HT");
  half.send("POST /tokenize HTTP/1.1\r\nHost: here\r\nContent-Length: 17\r\n\r\n{\"pro");
  expect_alive();
  EXPECT_EQ(slow.receive_all(), "");
  EXPECT_EQ(half.receive_all(), "");
  EXPECT_EQ(silent.receive_all(), "");
  // A connection that is kept, too.
  Connection kept(port());
  kept.send("GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
  EXPECT_EQ(parse_answer(kept.receive_all()).status, 200);
}

TEST_F(ServerTest, MoreConnectionsThanAllowedAreClosed) {
  ServeOptions o = options();
  o.http.max_connections = 2;
  start(o);
  Connection first(port()), second(port());
  const std::string health = "GET /health HTTP/1.1\r\nHost: here\r\n\r\n";
  for (Connection* kept : {&first, &second}) {
    kept->send(health);
    EXPECT_TRUE(kept->receive()->starts_with("HTTP/1.1 200"));
  }
  Connection third(port());
  third.send(health);
  EXPECT_EQ(third.receive_all(), "");
  first.close();
  EXPECT_TRUE(becomes_true([&] {
    Connection another(port());
    another.send(request_text("GET", "/health"));
    return parse_answer(another.receive_all()).status == 200;
  }));
}

TEST_F(ServerTest, AClientThatLeavesFreesItsSlot) {
  ServeOptions o = options();
  o.slots = 1;
  start(o);
  const auto cancelled = [&] { return scheduler().stats().cancelled; };
  json body = kLong;
  body["n"] = 20;  // many times the one slot
  int64_t expected = 0;
  for (const bool stream : {false, true}) {
    for (const bool reset : {false, true}) {
      body["stream"] = stream;
      Connection connection(port());
      connection.send(request_text("POST", "/v1/completions", body.dump()));
      if (stream) {
        EXPECT_TRUE(connection.receive()->starts_with("HTTP/1.1 200"));
      } else {
        EXPECT_TRUE(becomes_true([&] { return scheduler().stats().waiting > 10; }));
      }
      reset ? connection.reset() : connection.close();
      EXPECT_TRUE(becomes_true([&] { return cancelled() > expected; })) << stream << reset;
      expect_idle();
      expected = cancelled();
    }
  }
  EXPECT_GE(expected, 40);
  expect_alive();
}

TEST_F(ServerTest, AClientThatLeavesBehindBytesOfTheNextRequestFreesItsSlot) {
  ServeOptions o = options();
  o.slots = 1;
  start(o);
  json body = kLong;
  body["n"] = 20;
  for (const std::string& ahead : {std::string("x"), std::string(50'000, 'x')}) {
    const int64_t before = scheduler().stats().cancelled;
    Connection connection(port());
    std::string request = request_text("POST", "/v1/completions", body.dump());
    request.replace(request.find("close"), 5, "keep-alive");
    connection.send(request + ahead);
    EXPECT_TRUE(becomes_true([&] { return scheduler().stats().waiting > 10; }));
    connection.close();
    EXPECT_TRUE(becomes_true([&] { return scheduler().stats().cancelled > before + 9; }));
    expect_idle();
  }
  expect_alive();
}

TEST(HttpServer, ASlowReaderThatGoesOnReadingGetsItsWholeAnswer) {
  HttpOptions o;
  o.port = 0;
  o.write_time = 300ms;
  HttpServer server(o);
  const size_t size = 48'000'000;
  server.start([&](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
    reply->send({200, std::string(size, 'a')});
  });
  Connection connection(server.port());
  connection.send(request_text("GET", "/"));
  size_t received = 0, paused = 0;
  for (auto piece = connection.receive(); piece && !piece->empty(); piece = connection.receive()) {
    received += piece->size();
    if (received < paused + 1'000'000) continue;
    paused = received;
    std::this_thread::sleep_for(30ms);
  }
  EXPECT_GT(received, size);

  // One that stands still is cut off.
  Connection still(server.port());
  still.send(request_text("GET", "/"));
  std::this_thread::sleep_for(1s);
  EXPECT_LT(still.receive_all().size(), size);
  server.stop(0ms);
}

TEST(HttpServer, AReaderThatFallsFarBehindItsStreamIsCutOff) {
  HttpOptions o;
  o.port = 0;
  o.max_unsent_bytes = 1'000'000;
  HttpServer server(o);
  std::atomic<bool> left{false};
  std::jthread writer;
  server.start([&](const HttpRequest&, const std::shared_ptr<Reply>& reply) {
    reply->on_leave([&] { left = true; });
    writer = std::jthread([&, reply] {
      for (int i = 0; i < 200 && !left; ++i) {
        reply->stream(std::string(500'000, 'a'));
        std::this_thread::sleep_for(5ms);
      }
    });
  });
  Connection connection(server.port());
  connection.send(request_text("GET", "/"));
  connection.receive();
  writer.join();
  EXPECT_TRUE(left);
  server.stop(0ms);
}

TEST_F(ServerTest, ItsEndLetsRunningAnswersEndAndRefusesNewOnes) {
  start();
  json body = kLong;
  body["stream"] = true;
  body["n"] = 100;  // many rounds of the slots
  Connection running(port());
  running.send(request_text("POST", "/v1/completions", body.dump()));
  const std::string first = *running.receive();
  EXPECT_TRUE(first.starts_with("HTTP/1.1 200"));
  const int port_before = port();
  std::atomic<bool> whole{false};
  std::jthread draining([&] { whole = server_->drain(60s); });
  std::this_thread::sleep_for(100ms);
  const test::Answer refused = ask(port_before, "POST", "/v1/completions", kLong.dump());
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(json::parse(refused.body)["error"]["code"], "shutting_down");
  const std::string all = first + running.receive_all();
  EXPECT_NE(all.find("data: [DONE]"), std::string::npos);
  draining.join();
  EXPECT_TRUE(whole);
  EXPECT_THROW(Connection{port_before}, std::runtime_error);
}

TEST_F(ServerTest, ItsEndCutsOffWhatTakesTooLong) {
  ServeOptions o = options();
  o.slots = 1;
  start(o);
  json body = kLong;
  body["n"] = 100;
  Connection running(port());
  running.send(request_text("POST", "/v1/completions", body.dump()));
  EXPECT_TRUE(becomes_true([&] { return scheduler().stats().running == 1; }));
  EXPECT_FALSE(server_->drain(1ms));
  const test::Answer answer = parse_answer(running.receive_all());
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(json::parse(answer.body)["error"]["code"], "shutting_down");
}

// All models are closed at once, and each brings its answers to their end.
TEST_F(ServerTest, ItsEndWaitsForTheAnswersOfAllModels) {
  start();
  json body = kLong;
  body["stream"] = true;
  std::vector<std::unique_ptr<Connection>> running;
  std::vector<std::string> received;
  for (const auto& [name, n] : {std::pair<std::string, int>{"tiny", 40}, {"small", 100}}) {
    body["model"] = name;
    body["n"] = n;
    running.push_back(std::make_unique<Connection>(port()));
    running.back()->send(request_text("POST", "/v1/completions", body.dump()));
    received.push_back(*running.back()->receive());
    EXPECT_TRUE(received.back().starts_with("HTTP/1.1 200"));
  }
  const int port_before = port();
  std::atomic<bool> whole{false};
  std::jthread draining([&] { whole = server_->drain(60s); });
  std::this_thread::sleep_for(100ms);
  for (const char* name : {"tiny", "small"}) {
    body["model"] = name;
    EXPECT_EQ(ask(port_before, "POST", "/v1/completions", body.dump()).status, 503) << name;
  }
  for (size_t i = 0; i < running.size(); ++i) {
    received[i] += running[i]->receive_all();
    EXPECT_NE(received[i].find("data: [DONE]"), std::string::npos) << i;
  }
  draining.join();
  EXPECT_TRUE(whole);
}

TEST_F(ServerTest, RefusesAddressesThatItCannotHave) {
  start();
  ServeOptions o = options();
  o.http.port = port();
  EXPECT_ANY_THROW(start(o));
  o = options();
  o.http.host = "no such host";
  EXPECT_THROW(start(o), c10::ValueError);
}

// Clients of all kinds at both models at once: nothing is lost, and each answer is the one given
// alone.
TEST_F(ServerTest, HundredMixedRequestsGetTheAnswersGivenAlone) {
  start();
  struct Asked {
    std::string path;
    json body;
  };
  const auto request = [](int i) {
    Asked asked{"/v1/completions", {{"max_tokens", 1 + i % 23}, {"seed", i}}};
    if (i % 5 < 2) asked.body["model"] = "small";
    if (i % 4 == 0) asked.body["temperature"] = 0;
    if (i % 3 == 1) {
      asked.path = "/v1/chat/completions";
      asked.body["messages"] = {{{"role", "user"}, {"content", std::string(1 + i % 31, 'h')}}};
    } else if (i % 3 == 2) {
      asked.body["prompt"] = {{70, 71, 3 + i}, {99, 98}};
      asked.body["logprobs"] = 1;
      asked.body["echo"] = i % 2 == 0;
    } else {
      asked.body["prompt"] = "The " + std::to_string(i);
      asked.body["n"] = 1 + i % 2;
      asked.body["stop"] = {"a", "zz"};
    }
    return asked;
  };
  // Log-probabilities may differ in the last bits where the slots beside differ.
  const auto comparable = [](const test::Answer& answer) {
    EXPECT_EQ(answer.status, 200) << answer.body;
    json choices = json::parse(answer.body)["choices"];
    for (json& choice : choices) {
      if (choice["logprobs"].is_null()) continue;
      for (json& value : choice["logprobs"]["token_logprobs"]) {
        if (!value.is_null()) value = std::lround(value.get<double>() * 1000.0) / 10;
      }
      choice["logprobs"].erase("top_logprobs");
    }
    return choices;
  };
  std::vector<json> alone;
  for (int i = 0; i < 100; ++i) {
    const Asked asked = request(i);
    alone.push_back(comparable(post(asked.path, asked.body)));
  }
  std::vector<json> together(100);
  std::atomic<int> next{0};
  std::vector<std::jthread> clients;
  std::atomic<bool> over{false};
  for (int c = 0; c < 10; ++c) {
    clients.emplace_back([&] {
      for (int i = next++; i < 100; i = next++) {
        const Asked asked = request(i);
        together[i] = comparable(post(asked.path, asked.body));
      }
    });
  }
  // Others leave in the middle.
  std::jthread leaving([&] {
    json body = kLong;
    while (!over) {
      body["stream"] = true;
      Connection connection(port());
      connection.send(request_text("POST", "/v1/completions", body.dump()));
      connection.receive();
    }
  });
  clients.clear();
  over = true;
  leaving.join();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(together[i], alone[i]) << i;
  for (size_t model = 0; model < 2; ++model) {
    expect_idle(model);
    EXPECT_EQ(scheduler(model).stats().failed, 0);
  }
}

}  // namespace
}  // namespace schmidt::serve
