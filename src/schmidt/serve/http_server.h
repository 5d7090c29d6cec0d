#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "schmidt/serve/http.h"

namespace schmidt::serve {

struct HttpOptions {
  std::string host = "127.0.0.1";  ///< an address; no name is looked up
  int port = 8080;                 ///< in [0, 65535]; 0: a free one
  int threads = 2;                 ///< that read, parse and write; >= 1
  size_t max_body_bytes = 16 << 20;
  size_t max_header_bytes = 16 << 10;
  size_t max_connections = 1024;                 ///< at once; more are closed as they come
  std::chrono::milliseconds read_time{30'000};   ///< for a whole request to come in
  std::chrono::milliseconds idle_time{120'000};  ///< between two requests of a connection
  std::chrono::milliseconds write_time{30'000};  ///< for a client to take any more of its answer
  size_t max_unsent_bytes = 64 << 20;            ///< of a stream, behind what is being taken
};

/// HTTP/1.1 and 1.0 by Boost.Beast: keeps connections, limits what comes in, and tells a client
/// that has left from one that waits. A client that closes its side while it waits has left.
///
///   accept ─► header ─► body ─► handler ─► Reply ─► header of the next
class HttpServer {
 public:
  /// Listens from here on; answers after start(). Throws SystemError if the address cannot be
  /// had, c10::ValueError for an option out of range.
  explicit HttpServer(const HttpOptions& options);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  int port() const;
  void start(HttpHandler handler);

  /// Takes no new connections, closes those that wait for a request, lets the others take what
  /// was answered for `at_most`, then ends all threads. Replies do nothing afterwards.
  void stop(std::chrono::milliseconds at_most);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace schmidt::serve
