#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

/// Results on standard output, which may be refused like any file: a full disk, a closed
/// stream, a reader that has gone.
namespace schmidt::cli {

/// Standard output did not take what was printed.
class OutputError : public std::runtime_error {
 public:
  /// `code` is an errno value, 0 where the reason is not known any more.
  explicit OutputError(int code);
  /// The reader closed its end: nobody is left to be told anything.
  bool reader_left() const { return reader_left_; }

 private:
  bool reader_left_;
};

/// Opens what the caller has closed of stdin, stdout and stderr such that using it fails, so
/// that no file of a model gets the number of a standard stream. Call it before any other file
/// is opened.
void guard_standard_streams();

/// Prints `text` at once. Throws OutputError.
void print_now(std::string_view text);

/// Hands on all that was printed. Throws OutputError if a part of it is lost, now or before.
void flush_output();

}  // namespace schmidt::cli
