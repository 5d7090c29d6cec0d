#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>

namespace schmidt {

/// A file does not hold what its format asks for: truncated, inconsistent,
/// hostile, or of a kind that is not supported. One line, which names the path,
/// the place in it (a tensor, a key; may be empty) and the reason.
/// The command line answers it with exit code 3.
class FormatError : public std::runtime_error {
 public:
  FormatError(const std::filesystem::path& path, std::string_view where, std::string_view reason);

  const std::filesystem::path& path() const { return path_; }
  const std::string& where() const { return where_; }
  const std::string& reason() const { return reason_; }

 private:
  std::filesystem::path path_;
  std::string where_, reason_;
};

/// The operating system refused: no space, no permission, no such file.
/// The command line answers it with exit code 2.
class SystemError : public std::runtime_error {
 public:
  /// `action` reads like "cannot write"; `code` is an errno value.
  SystemError(std::string_view action, const std::filesystem::path& path, int code);

  const std::string& action() const { return action_; }
  const std::filesystem::path& path() const { return path_; }
  int code() const { return code_; }

 private:
  std::string action_;
  std::filesystem::path path_;
  int code_;
};

}  // namespace schmidt
