#include "schmidt/serve/http_session.h"

#include <algorithm>
#include <optional>
#include <sstream>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http.hpp>
#include <fmt/format.h>

#include "schmidt/serve/api_error.h"

namespace schmidt::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;

namespace {

constexpr size_t kReadBytes = 64 << 10;
// How long a refused client may go on sending before the connection is cut: one that is cut at
// once does not read why.
constexpr std::chrono::seconds kLinger{5};

}  // namespace

// All but the constructor runs on the stream's strand.
class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  HttpSession(tcp::socket socket, HttpSessions& sessions)
      : sessions_(sessions),
        options_(sessions.options),
        stream_(std::move(socket)),
        buffer_(options_.max_header_bytes + options_.max_body_bytes + kReadBytes) {}

  ~HttpSession() {
    const std::lock_guard lock(sessions_.mutex);
    if (--sessions_.count == 0) sessions_.all_ended.notify_all();
  }

  beast::tcp_stream::executor_type executor() { return stream_.get_executor(); }
  std::chrono::milliseconds read_time() const { return options_.read_time; }

  void wait_for_request(std::chrono::milliseconds at_most) {
    if (stopping_) return close();
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(options_.max_header_bytes));
    parser_->body_limit(options_.max_body_bytes);
    if (buffer_.size() > 0) return read_header();
    stream_.expires_after(at_most);
    stream_.async_read_some(buffer_.prepare(kReadBytes / 4),
                            [self = shared_from_this()](ErrorCode error, size_t bytes) {
                              if (error) return self->close();
                              self->buffer_.commit(bytes);
                              self->read_header();
                            });
  }

  void stop() {
    stopping_ = true;
    if (!answering_) close();
  }

  // Of a reply, for the request with that number.

  void send(uint64_t request, HttpResponse response) {
    if (!is_open(request) || head_sent_) return;
    http::response<http::empty_body> head(static_cast<http::status>(response.status), version_);
    head.set(http::field::content_type, response.content_type);
    for (const auto& [name, value] : response.headers) head.set(name, value);
    head.content_length(response.body.size());
    send_head(head);
    if (!head_alone_) out_ += response.body;
    last_ = true;
    write();
  }

  void stream(uint64_t request, const std::string& piece) {
    if (!is_open(request) || piece.empty() || last_) return;
    // Who reads so slowly ends the drawing of what would only be kept here.
    if (writing_ && out_.size() + piece.size() > options_.max_unsent_bytes) return close();
    begin_stream();
    out_ += chunked_ ? fmt::format("{:x}\r\n{}\r\n", piece.size(), piece) : piece;
    write();
  }

  void end_stream(uint64_t request) {
    if (!is_open(request) || last_) return;
    begin_stream();
    if (chunked_) out_ += "0\r\n\r\n";
    last_ = true;
    write();
  }

  void on_leave(uint64_t request, std::function<void()> left) {
    if (request != request_) return;  // answered already
    if (closed_) return left();
    if (answering_) on_leave_ = std::move(left);
  }

 private:
  bool is_open(uint64_t request) const { return answering_ && !closed_ && request == request_; }

  void read_header() {
    stream_.expires_after(options_.read_time);
    http::async_read_header(stream_, buffer_, *parser_,
                            [self = shared_from_this()](ErrorCode error, size_t) {
                              if (error) return self->refuse(error);
                              self->begin_body();
                            });
  }

  void begin_body() {
    const auto& head = parser_->get();
    // Where such a body ends nobody knows, and what comes next is not to be read as a request.
    if (head.find(http::field::transfer_encoding) != head.end() && !parser_->chunked()) {
      begin_answer(11, /*keep_alive=*/false);
      return send(request_, {501, error_body("expected Transfer-Encoding: chunked, got another",
                                             "invalid_request_error", "bad_request")});
    }
    if (!beast::iequals(head[http::field::expect], "100-continue")) return read_body();
    static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    asio::async_write(stream_, asio::buffer(kContinue.data(), kContinue.size()),
                      [self = shared_from_this()](ErrorCode error, size_t) {
                        if (error) return self->close();
                        self->read_body();
                      });
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = shared_from_this()](ErrorCode error, size_t) {
                       if (error) return self->refuse(error);
                       self->hand_over();
                     });
  }

  void hand_over();

  void begin_answer(unsigned version, bool keep_alive, bool head_alone = false) {
    stream_.expires_never();
    ++request_;
    answering_ = true;
    head_sent_ = last_ = false;
    version_ = version;
    keep_alive_ = keep_alive;
    head_alone_ = head_alone;
  }

  // A request that HTTP itself does not allow, as far as its sender can still be told.
  void refuse(ErrorCode error) {
    int status = 400;
    std::string message = "not a request of HTTP/1.1: " + error.message();
    if (error == http::error::body_limit) {
      status = 413;
      message = fmt::format("expected a body of at most {} bytes", options_.max_body_bytes);
    } else if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      status = 431;
      message = fmt::format("expected headers of at most {} bytes", options_.max_header_bytes);
    } else if (error.category() != make_error_code(http::error::bad_method).category() ||
               error == http::error::end_of_stream || error == http::error::partial_message) {
      return close();  // gone, or too slow
    }
    begin_answer(11, /*keep_alive=*/false);
    send(request_, {status, error_body(message, "invalid_request_error", "bad_request")});
  }

  // Tells a client that leaves from one that waits, while no other reading would. What the client
  // sends ahead is kept for later, up to a whole request: its leaving lies behind that.
  void watch() {
    stream_.socket().async_wait(
        tcp::socket::wait_read, [self = shared_from_this(), request = request_](ErrorCode error) {
          if (!self->is_open(request)) return;
          if (error) return self->close();
          // Readiness may be that of bytes which were read meanwhile: only reading tells.
          const size_t room = self->buffer_.max_size() - self->buffer_.size();
          if (room == 0) return self->close();
          tcp::socket& socket = self->stream_.socket();
          socket.non_blocking(true, error);
          const auto next = self->buffer_.prepare(std::min(room, kReadBytes / 4));
          const size_t bytes = socket.receive(next, 0, error);
          if (error && error != asio::error::would_block) return self->close();
          self->buffer_.commit(error ? 0 : bytes);
          self->watch();
        });
  }

  void send_head(http::response<http::empty_body>& head) {
    head.set(http::field::server, "schmidt");
    head.keep_alive(keep_alive_ && !stopping_);
    std::ostringstream text;
    text << head.base();
    out_ += text.str();
    head_sent_ = true;
  }

  void begin_stream() {
    if (head_sent_) return;
    chunked_ = version_ >= 11;
    keep_alive_ = keep_alive_ && chunked_;
    http::response<http::empty_body> head(http::status::ok, version_);
    head.set(http::field::content_type, "text/event-stream; charset=utf-8");
    head.set(http::field::cache_control, "no-cache");
    if (chunked_) head.chunked(true);
    send_head(head);
  }

  void write() {
    if (writing_) return;
    if (out_.empty()) {
      if (last_) finish();
      return;
    }
    writing_ = true;
    sent_.swap(out_);
    out_.clear();
    taken_ = 0;
    write_on();
  }

  // The deadline counts anew from whatever the client takes.
  void write_on() {
    stream_.expires_after(options_.write_time);
    stream_.async_write_some(asio::buffer(sent_.data() + taken_, sent_.size() - taken_),
                             [self = shared_from_this()](ErrorCode error, size_t bytes) {
                               self->taken_ += error ? 0 : bytes;
                               if (!error && self->taken_ < self->sent_.size())
                                 return self->write_on();
                               self->writing_ = false;
                               if (error) return self->close();
                               self->stream_.expires_never();
                               if (!self->out_.empty()) return self->write();
                               if (self->last_) self->finish();
                             });
  }

  void finish() {
    answering_ = false;
    on_leave_ = nullptr;
    if (stopping_) return close();
    if (keep_alive_) return wait_for_request(options_.idle_time);
    ErrorCode ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(kLinger);
    linger();
  }

  // Reads on until the client has read the answer and closes.
  void linger() {
    buffer_.clear();
    stream_.async_read_some(buffer_.prepare(kReadBytes / 4),
                            [self = shared_from_this()](ErrorCode error, size_t) {
                              if (error) return self->close();
                              self->linger();
                            });
  }

  void close() {
    if (closed_) return;
    closed_ = true;
    answering_ = false;
    ErrorCode ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
    stream_.close();
    if (const auto left = std::exchange(on_leave_, nullptr)) left();
  }

  HttpSessions& sessions_;
  const HttpOptions& options_;
  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;

  uint64_t request_ = 0;  // number of the last request
  unsigned version_ = 11;
  bool keep_alive_ = true, head_alone_ = false, chunked_ = true;
  bool answering_ = false;  // between a request and the end of its answer
  bool head_sent_ = false, last_ = false, writing_ = false;
  bool closed_ = false, stopping_ = false;
  std::string out_, sent_;  // to be sent, being sent
  size_t taken_ = 0;        // bytes of sent_ that the client has taken
  std::function<void()> on_leave_;
};

namespace {

class SessionReply : public Reply {
 public:
  SessionReply(std::shared_ptr<HttpSession> session, uint64_t request)
      : session_(std::move(session)), request_(request) {}

  void send(HttpResponse response) override {
    on_strand([response = std::move(response)](HttpSession& session, uint64_t request) mutable {
      session.send(request, std::move(response));
    });
  }
  void stream(std::string piece) override {
    on_strand([piece = std::move(piece)](HttpSession& session, uint64_t request) {
      session.stream(request, piece);
    });
  }
  void end_stream() override {
    on_strand([](HttpSession& session, uint64_t request) { session.end_stream(request); });
  }
  void run(std::function<void()> work) override {
    asio::post(session_->executor(), [session = session_, work = std::move(work)] { work(); });
  }
  void on_leave(std::function<void()> left) override {
    on_strand([left = std::move(left)](HttpSession& session, uint64_t request) mutable {
      session.on_leave(request, std::move(left));
    });
  }

 private:
  template <typename Work>
  void on_strand(Work work) {
    asio::dispatch(session_->executor(),
                   [session = session_, request = request_, work = std::move(work)]() mutable {
                     work(*session, request);
                   });
  }

  const std::shared_ptr<HttpSession> session_;
  const uint64_t request_;
};

}  // namespace

void HttpSession::hand_over() {
  auto message = parser_->release();
  begin_answer(message.version(), message.keep_alive(), message.method() == http::verb::head);
  const auto text = [](beast::string_view view) { return std::string(view.data(), view.size()); };
  HttpRequest request{text(message.method_string()), text(message.target()),
                      text(message[http::field::authorization]), std::move(message.body())};
  if (const size_t mark = request.path.find('?'); mark != std::string::npos) {
    request.query = request.path.substr(mark + 1);
    request.path.resize(mark);
  }
  watch();
  sessions_.handler(std::move(request),
                    std::make_shared<SessionReply>(shared_from_this(), request_));
}

void start_session(tcp::socket socket, HttpSessions& sessions) {
  {
    const std::lock_guard lock(sessions.mutex);
    if (sessions.stopping || sessions.count >= sessions.options.max_connections) return;
    ++sessions.count;
  }
  ErrorCode ignored;
  socket.set_option(tcp::no_delay(true), ignored);  // tokens are small and shall not wait
  const auto session = std::make_shared<HttpSession>(std::move(socket), sessions);
  bool stopping = false;
  {
    const std::lock_guard lock(sessions.mutex);
    std::erase_if(sessions.open, [](const auto& old) { return old.expired(); });
    sessions.open.push_back(session);
    stopping = sessions.stopping;
  }
  if (stopping) return;
  asio::dispatch(session->executor(),
                 [session] { session->wait_for_request(session->read_time()); });
}

void stop_sessions(HttpSessions& sessions) {
  std::vector<std::weak_ptr<HttpSession>> open;
  {
    const std::lock_guard lock(sessions.mutex);
    sessions.stopping = true;
    open.swap(sessions.open);
  }
  for (const auto& weak : open) {
    if (const auto session = weak.lock()) {
      asio::dispatch(session->executor(), [session] { session->stop(); });
    }
  }
}

}  // namespace schmidt::serve
