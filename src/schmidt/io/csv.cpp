#include "schmidt/io/csv.h"

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::io {

std::vector<std::vector<std::string>> parse_csv(std::string_view text,
                                                const std::filesystem::path& path) {
  std::vector<std::vector<std::string>> rows;
  std::vector<std::string> row;
  std::string field;
  bool quoted = false, inside = false;  // the field began with a quote; it is still open
  size_t line = 1;
  const auto refuse = [&](const char* reason) {
    throw FormatError(path, fmt::format("line {}", line), reason);
  };
  const auto end_field = [&] {
    row.push_back(std::move(field));
    field.clear();
    quoted = false;
  };
  const auto end_row = [&] {
    const bool empty = row.empty() && field.empty() && !quoted;
    if (empty) return;
    end_field();
    rows.push_back(std::move(row));
    row.clear();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') ++line;
    const char next = i + 1 < text.size() ? text[i + 1] : '\n';
    if (inside) {
      if (c != '"') {
        field += c;
      } else if (next == '"') {
        field += text[++i];
      } else {
        inside = false;
        if (next != ',' && next != '\n' && next != '\r') refuse("text after a closing quote");
      }
    } else if (c == '"') {
      if (!field.empty()) refuse("a quote in the middle of a field");
      quoted = inside = true;
    } else if (c == ',') {
      end_field();
    } else if (c == '\n') {
      end_row();
    } else if (c != '\r' || next != '\n') {
      field += c;
    }
  }
  if (inside) refuse("a quote that is not closed");
  end_row();
  return rows;
}

}  // namespace schmidt::io
