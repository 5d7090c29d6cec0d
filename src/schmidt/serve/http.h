#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace schmidt::serve {

struct HttpRequest {
  std::string method;         ///< "GET"
  std::string path;           ///< "/v1/models", without what follows a question mark
  std::string authorization;  ///< that header, or empty
  std::string body;
  std::string query = {};  ///< "model=small", what follows the question mark
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};  ///< others
};

/// The way back to a client that waits for one answer: one call of send(), or stream() any number
/// of times and then end_stream(). Every call may come from any thread, and does nothing once the
/// client has left.
class Reply {
 public:
  virtual ~Reply() = default;

  virtual void send(HttpResponse response) = 0;

  /// A piece of a body of server-sent events, sent at once.
  virtual void stream(std::string piece) = 0;
  virtual void end_stream() = 0;

  /// Runs `work` beside the connection, after the work before it: what takes time to make is made
  /// there and not on the thread that draws tokens. It must not throw.
  virtual void run(std::function<void()> work) = 0;

  /// `left` is called once if the client leaves before the end of its answer; at once if it has
  /// left already.
  virtual void on_leave(std::function<void()> left) = 0;
};

/// Answers a request, now or later from another thread. Must not throw.
using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<Reply>)>;

}  // namespace schmidt::serve
