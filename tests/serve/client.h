#pragma once

#include <map>
#include <optional>
#include <string>

namespace schmidt::test {

/// A connection to 127.0.0.1, closed at the end.
class Connection {
 public:
  explicit Connection(int port);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// -> whether all bytes were taken.
  bool send(const std::string& bytes);
  /// What comes next; empty at the end, none after ten seconds without anything.
  std::optional<std::string> receive();
  /// Until the other side closes.
  std::string receive_all();
  void close();
  /// Ends with a reset, as a program that was killed may.
  void reset();

 private:
  int socket_;
};

struct Answer {
  int status = 0;                              ///< 0: the connection was closed without one
  std::map<std::string, std::string> headers;  ///< names in small letters
  std::string body;                            ///< chunks put together
};

/// The first answer in `bytes`.
Answer parse_answer(const std::string& bytes);

/// A request with "Connection: close".
std::string request_text(const std::string& method, const std::string& path,
                         const std::string& body = "");

/// Asks on a connection of its own.
Answer ask(int port, const std::string& method, const std::string& path,
           const std::string& body = "");

}  // namespace schmidt::test
