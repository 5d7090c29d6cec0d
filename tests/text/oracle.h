#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/support.h"

/// Reads what python/oracles/text.py wrote.
namespace schmidt::test {

inline std::filesystem::path text_oracle(const std::string& name) {
  return oracle_dir() / "text" / name;
}

inline std::vector<std::string> read_rows(const std::string& name) {
  const std::string content = read_file(text_oracle(name));
  std::vector<std::string> rows;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = content.find('\n', begin);
    rows.push_back(content.substr(begin, end - begin));
    begin = end + 1;
  }
  return rows;
}

/// Rows of bytes, one in hexadecimal on each line.
inline std::vector<std::string> read_hex(const std::string& name) {
  std::vector<std::string> rows = read_rows(name);
  for (std::string& row : rows) {
    std::string bytes;
    for (size_t i = 0; i < row.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(row.substr(i, 2), nullptr, 16)));
    }
    row = std::move(bytes);
  }
  return rows;
}

/// Rows of ids, separated by spaces.
inline std::vector<std::vector<int64_t>> read_ids(const std::string& name) {
  std::vector<std::vector<int64_t>> rows;
  for (const std::string& row : read_rows(name)) {
    rows.emplace_back();
    for (size_t i = 0; i < row.size();) {
      size_t used = 0;
      rows.back().push_back(std::stoll(row.substr(i, 12), &used));
      i += used + 1;
    }
  }
  return rows;
}

}  // namespace schmidt::test
