#pragma once

#include <stdexcept>
#include <string>

namespace schmidt::serve {

/// A request that gets no answer, as the OpenAI protocol says it.
class ApiError : public std::runtime_error {
 public:
  /// `status` is that of HTTP; `type` and `code` are read by programs, `message` by people.
  ApiError(int status, std::string type, std::string code, const std::string& message)
      : std::runtime_error(message),
        status_(status),
        type_(std::move(type)),
        code_(std::move(code)) {}

  int status() const { return status_; }
  const std::string& type() const { return type_; }
  const std::string& code() const { return code_; }

 private:
  int status_;
  std::string type_, code_;
};

/// What is wrong with a field of the request; status 400.
inline ApiError invalid_request(const std::string& message,
                                const std::string& code = "invalid_value") {
  return {400, "invalid_request_error", code, message};
}

/// {"error": {"message", "type", "code"}}.
std::string error_body(const std::string& message, const std::string& type,
                       const std::string& code);

}  // namespace schmidt::serve
