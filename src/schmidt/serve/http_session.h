#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include <boost/asio/ip/tcp.hpp>

#include "schmidt/serve/http.h"
#include "schmidt/serve/http_server.h"

namespace schmidt::serve {

class HttpSession;

/// What the connections of one server share.
struct HttpSessions {
  HttpOptions options;
  HttpHandler handler;
  std::mutex mutex;  // of all below
  std::condition_variable all_ended;
  size_t count = 0;
  bool stopping = false;
  std::vector<std::weak_ptr<HttpSession>> open;
};

/// Serves a connection until it ends. It lives as long as it is read, written or answered.
void start_session(boost::asio::ip::tcp::socket socket, HttpSessions& sessions);

/// Ends those that wait for a request, and the others after their answers.
void stop_sessions(HttpSessions& sessions);

}  // namespace schmidt::serve
