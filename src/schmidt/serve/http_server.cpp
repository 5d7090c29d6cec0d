#include "schmidt/serve/http_server.h"

#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/serve/http_session.h"

namespace schmidt::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

struct HttpServer::Impl {
  HttpSessions sessions;  // outlives the sessions, which the context may hold until its end
  asio::io_context context;
  tcp::acceptor acceptor{asio::make_strand(context)};
  asio::steady_timer pause{acceptor.get_executor()};
  asio::executor_work_guard<asio::io_context::executor_type> work{context.get_executor()};
  std::vector<std::jthread> threads;

  void listen(const HttpOptions& options);
  void accept();
};

void HttpServer::Impl::listen(const HttpOptions& options) {
  ErrorCode error;
  const auto address =
      asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
  TORCH_CHECK_VALUE(!error, "[serve] expected an address like 127.0.0.1 or ::1 as the host, got \"",
                    options.host, "\"");
  TORCH_CHECK_VALUE(options.port >= 0 && options.port <= 65535,
                    "[serve] expected a port in [0, 65535], got ", options.port);
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
  const auto check = [&] {
    if (error) {
      throw SystemError("cannot listen on", fmt::format("{}:{}", options.host, options.port),
                        error.value());
    }
  };
  acceptor.open(endpoint.protocol(), error), check();
  acceptor.set_option(asio::socket_base::reuse_address(true), error), check();
  acceptor.bind(endpoint, error), check();
  acceptor.listen(asio::socket_base::max_listen_connections, error), check();
}

void HttpServer::Impl::accept() {
  acceptor.async_accept(asio::make_strand(context), [this](ErrorCode error, tcp::socket socket) {
    if (!acceptor.is_open()) return;
    if (!error) {
      start_session(std::move(socket), sessions);
      return accept();
    }
    // No file descriptor is left, say: some connections end in a while.
    pause.expires_after(std::chrono::milliseconds(50));
    pause.async_wait([this](ErrorCode ended) {
      if (!ended && acceptor.is_open()) accept();
    });
  });
}

HttpServer::HttpServer(const HttpOptions& options) : impl_(std::make_unique<Impl>()) {
  TORCH_CHECK_VALUE(options.threads >= 1 && options.max_header_bytes >= 1,
                    "[serve] expected a thread or more and headers of a byte or more");
  impl_->sessions.options = options;
  impl_->listen(options);
}

HttpServer::~HttpServer() { stop(std::chrono::milliseconds(0)); }

int HttpServer::port() const { return impl_->acceptor.local_endpoint().port(); }

void HttpServer::start(HttpHandler handler) {
  impl_->sessions.handler = std::move(handler);
  impl_->accept();
  for (int i = 0; i < impl_->sessions.options.threads; ++i) {
    impl_->threads.emplace_back([this] {
      for (bool done = false; !done;) {
        try {
          impl_->context.run();
          done = true;
        } catch (const std::exception&) {
          // One connection's, which its deadline ends; the others are served on.
        }
      }
    });
  }
}

void HttpServer::stop(std::chrono::milliseconds at_most) {
  asio::post(impl_->acceptor.get_executor(), [this] {
    ErrorCode ignored;
    impl_->acceptor.close(ignored);
    impl_->pause.cancel();
  });
  stop_sessions(impl_->sessions);
  if (!impl_->threads.empty()) {
    std::unique_lock lock(impl_->sessions.mutex);
    impl_->sessions.all_ended.wait_for(lock, at_most, [&] { return impl_->sessions.count == 0; });
  }
  impl_->work.reset();
  impl_->context.stop();
  impl_->threads.clear();
}

}  // namespace schmidt::serve
