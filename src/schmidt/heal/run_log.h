#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <vector>

#include <nlohmann/json.hpp>

namespace schmidt::heal {

/// A run's JSON Lines file: one object a line, written as it happens.
class RunLog {
 public:
  /// Appends to the file; a last line that a kill left unfinished goes. Throws SystemError
  /// if it cannot be written.
  explicit RunLog(std::filesystem::path path);

  /// Of a rank that leaves the file to another: writes nothing.
  RunLog() = default;

  /// Leaves out the steps that a killed run wrote beyond `step`, and a last half line.
  void rewind(int64_t step);

  /// Leaves out what it says of `block` and those behind it.
  void rewind_to_block(int64_t block);

  /// Throws SystemError.
  void write(const nlohmann::json& line);

  const std::filesystem::path& path() const { return path_; }

 private:
  void keep_if(const std::function<bool(const nlohmann::json& line)>& wanted);

  std::filesystem::path path_;  // empty: no file
};

/// The lines of such a file; a last one that a kill left unfinished is dropped.
/// Throws FormatError for any other line that is no object, SystemError.
std::vector<nlohmann::json> read_run_log(const std::filesystem::path& path);

}  // namespace schmidt::heal
