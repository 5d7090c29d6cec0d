#include "tests/serve/client.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace schmidt::test {

Connection::Connection(int port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const timeval patience{10, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("no connection");
  }
}

Connection::~Connection() { close(); }

void Connection::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

void Connection::reset() {
  const linger at_once{1, 0};
  ::setsockopt(socket_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close();
}

bool Connection::send(const std::string& bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t n = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}

std::optional<std::string> Connection::receive() {
  std::string bytes(64 << 10, '\0');
  const ssize_t n = ::recv(socket_, bytes.data(), bytes.size(), 0);
  if (n < 0) return errno == EAGAIN ? std::nullopt : std::optional<std::string>("");
  bytes.resize(static_cast<size_t>(n));
  return bytes;
}

std::string Connection::receive_all() {
  std::string all;
  for (;;) {
    const auto bytes = receive();
    if (!bytes) throw std::runtime_error("no answer for ten seconds, after: " + all);
    if (bytes->empty()) return all;
    all += *bytes;
  }
}

Answer parse_answer(const std::string& bytes) {
  Answer answer;
  const size_t end = bytes.find("\r\n\r\n");
  if (end == std::string::npos) return answer;
  std::istringstream head(bytes.substr(0, end));
  std::string line;
  std::getline(head, line);
  answer.status = std::atoi(line.c_str() + line.find(' ') + 1);
  while (std::getline(head, line)) {
    const size_t colon = line.find(':');
    std::string name = line.substr(0, colon);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    std::string value = line.substr(colon + 2);
    while (value.ends_with('\r')) value.pop_back();
    answer.headers[name] = value;
  }
  std::string body = bytes.substr(end + 4);
  const auto encoding = answer.headers.find("transfer-encoding");
  if (encoding == answer.headers.end() || encoding->second != "chunked") {
    if (answer.headers.contains("content-length")) {
      body.resize(std::min<size_t>(body.size(), std::stoul(answer.headers["content-length"])));
    }
    answer.body = body;
    return answer;
  }
  for (size_t at = 0;;) {
    const size_t size = std::stoul(body.substr(at), nullptr, 16);
    if (size == 0) return answer;
    at = body.find("\r\n", at) + 2;
    answer.body += body.substr(at, size);
    at += size + 2;
  }
}

std::string request_text(const std::string& method, const std::string& path,
                         const std::string& body) {
  return method + " " + path + " HTTP/1.1\r\nHost: here\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

Answer ask(int port, const std::string& method, const std::string& path, const std::string& body) {
  Connection connection(port);
  connection.send(request_text(method, path, body));
  return parse_answer(connection.receive_all());
}

}  // namespace schmidt::test
