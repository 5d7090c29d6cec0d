#include <algorithm>
#include <csignal>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/serve/client.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

using nlohmann::json;

// `schmidt serve` on a free port, as a process of its own.
class ServeVerbTest : public testing::Test {
 protected:
  ServeVerbTest() {
    test::write_model(test::make_tiny_model(), tmp_ / "tiny");
    test::write_byte_tokenizer(tmp_ / "tiny");
  }

  ~ServeVerbTest() override {
    if (child_ > 0) ::kill(child_, SIGKILL), ::waitpid(child_, nullptr, 0);
  }

  // -> the first line that it prints.
  std::string start(std::vector<std::string> arguments) {
    int out[2];
    EXPECT_EQ(::pipe(out), 0);
    arguments.insert(arguments.begin(), {SCHMIDT_PROGRAM, "serve"});
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string errors = (tmp_ / "stderr").string();
    child_ = ::fork();
    if (child_ == 0) {
      ::dup2(out[1], STDOUT_FILENO);
      ::dup2(::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
      ::close(out[0]), ::close(out[1]);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(out[1]);
    std::string line;
    for (char c = 0; ::read(out[0], &c, 1) == 1 && c != '\n';) line += c;
    ::close(out[0]);
    return line;
  }

  int wait() {
    int status = 0;
    ::waitpid(child_, &status, 0);
    child_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  test::TemporaryFolder tmp_;
  pid_t child_ = -1;
};

TEST_F(ServeVerbTest, ServesUntilSigtermAndThenEndsInOrder) {
  const std::string line = start({(tmp_ / "tiny").string(), "--port", "0", "--slots", "2"});
  ASSERT_TRUE(line.starts_with("tiny is served at http://127.0.0.1:")) << line;
  const int port = std::stoi(line.substr(line.rfind(':') + 1));
  const json models = json::parse(test::ask(port, "GET", "/v1/models").body);
  EXPECT_EQ(models["data"][0]["id"], "tiny");
  EXPECT_EQ(models["data"][0]["meta"]["forms"], "F32 100.0 %");
  const json body = {{"prompt", "a"},      {"max_tokens", 120}, {"n", 8},
                     {"ignore_eos", true}, {"stream", true},    {"model", "tiny"}};
  test::Connection running(port);
  running.send(test::request_text("POST", "/v1/completions", body.dump()));
  std::string answer = *running.receive();
  ::kill(child_, SIGTERM);
  answer += running.receive_all();
  EXPECT_NE(answer.find("data: [DONE]"), std::string::npos);
  EXPECT_EQ(wait(), 0);
  EXPECT_TRUE(test::read_file(tmp_ / "stderr").starts_with("note: no new requests"));
}

TEST_F(ServeVerbTest, SizesOutOfRangeAreRefusedInOneLine) {
  for (const char* size : {"1e300", "1001", "1e-300", "0", "-1", "nan", "inf"}) {
    start({(tmp_ / "tiny").string(), "--port", "0", std::string("--max-body=") + size});
    EXPECT_EQ(wait(), 2) << size;
    const std::string error = test::read_file(tmp_ / "stderr");
    EXPECT_EQ(std::count(error.begin(), error.end(), '\n'), 1) << error;
    EXPECT_NE(error.find("expected 0.001 to 1000 MB"), std::string::npos) << error;
  }
}

TEST_F(ServeVerbTest, AsksForItsKeyAndPrintsJson) {
  const json line = json::parse(start({(tmp_ / "tiny").string(), "--port", "0", "--api-key", "k",
                                       "--name", "mine", "--json", "-q"}));
  EXPECT_EQ(line["models"], json::array({"mine"}));
  EXPECT_EQ(test::ask(line["port"], "GET", "/v1/models").status, 401);
  EXPECT_EQ(test::ask(line["port"], "GET", "/health").status, 200);
  ::kill(child_, SIGINT);
  EXPECT_EQ(wait(), 0);
}

TEST_F(ServeVerbTest, SeveralModelsAreServedSideBySide) {
  const std::string small = (tmp_ / "kept/tiny").string();
  test::write_model(test::make_tiny_model(2, 2), small);
  test::write_byte_tokenizer(small);
  const std::string line = start({(tmp_ / "tiny").string(), small + "/", "--port", "0"});
  const std::string original = (tmp_.path().filename() / "tiny").string();
  ASSERT_TRUE(line.starts_with(original + ", kept/tiny are served at http://127.0.0.1:")) << line;
  const int port = std::stoi(line.substr(line.rfind(':') + 1));
  const json models = json::parse(test::ask(port, "GET", "/v1/models").body)["data"];
  ASSERT_EQ(models.size(), 2);
  EXPECT_EQ(models[0]["id"], original);
  EXPECT_EQ(models[1]["id"], "kept/tiny");
  EXPECT_GT(models[1]["meta"]["bytes"], 0);
  const auto answer = [&](const std::string& model) {
    const json body = {{"prompt", "a"}, {"temperature", 0}, {"max_tokens", 16}, {"model", model}};
    return json::parse(test::ask(port, "POST", "/v1/completions", body.dump()).body)["choices"];
  };
  EXPECT_NE(answer(original), answer("kept/tiny"));
  EXPECT_EQ(answer(small + "/"), answer("kept/tiny"));
  ::kill(child_, SIGTERM);
  EXPECT_EQ(wait(), 0);
}

TEST_F(ServeVerbTest, MistakesAreOneLine) {
  const std::string model = (tmp_ / "tiny").string();
  const auto refuses = [&](std::vector<std::string> arguments, const std::string& part) {
    start(std::move(arguments));
    EXPECT_EQ(wait(), 2);
    const std::string errors = test::read_file(tmp_ / "stderr");
    EXPECT_TRUE(errors.starts_with("error: ")) << errors;
    EXPECT_EQ(std::ranges::count(errors, '\n'), 1) << errors;
    EXPECT_NE(errors.find(part), std::string::npos) << errors;
  };
  refuses({model, "--port", "70000"}, "--port");
  refuses({model, "--host", "nowhere", "--port", "0"}, "host");
  refuses({model, "--host", "203.0.113.7", "--port", "0"}, "cannot listen on");
  refuses({model, "--context", "4096", "--port", "0"}, "context");
  refuses({model, "--slots", "0"}, "--slots");
  refuses({(tmp_ / "nothing").string()}, "nothing");
  refuses({model, model + "/../tiny/"}, "expected each model once");
  refuses({model, "--name", "a", "--name", "b"}, "expected --name once for each model");
  refuses({model, (tmp_ / "nothing").string(), "--name", "a", "--name", "a"}, "names that differ");
}

}  // namespace
}  // namespace schmidt
