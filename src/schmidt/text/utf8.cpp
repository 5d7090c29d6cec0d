#include "schmidt/text/utf8.h"

#include <algorithm>
#include <cstdint>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// One step over bytes of unknown quality.
struct Step {
  enum Kind { kWellFormed, kIllFormed, kUnfinished } kind;
  int length;  // of the character, of the maximal subpart, or of what is there
};

// Unicode 15, table 3-7: the first byte fixes the length and narrows the second.
Step step(std::string_view bytes, size_t position) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = byte(position);
  if (lead < 0x80) return {Step::kWellFormed, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Step::kIllFormed, 1};
  const int length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  uint8_t low = 0x80, high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (int i = 1; i < length; ++i) {
    if (position + i >= bytes.size()) return {Step::kUnfinished, i};
    const uint8_t next = byte(position + i);
    if (next < low || next > high) return {Step::kIllFormed, i};
    low = 0x80, high = 0xBF;
  }
  return {Step::kWellFormed, length};
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t position) {
  const auto byte = [&](int i) {
    return static_cast<char32_t>(static_cast<uint8_t>(text[position + i]));
  };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F),
          4};
}

CodePoint code_point_before(std::string_view text, size_t position) {
  size_t start = position - 1;
  while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  return code_point_at(text, start);
}

void append_utf8(std::string& text, char32_t c) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6), put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F)), put(0x80 | (c & 0x3F));
  }
}

std::string to_valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (size_t i = 0; i < bytes.size();) {
    const Step s = step(bytes, i);
    text += s.kind == Step::kWellFormed ? bytes.substr(i, s.length) : kReplacement;
    i += s.length;
  }
  return text;
}

bool is_valid_utf8(std::string_view bytes) { return valid_utf8_prefix(bytes) == bytes.size(); }

size_t valid_utf8_prefix(std::string_view bytes) {
  size_t i = 0;
  while (i < bytes.size()) {
    const Step s = step(bytes, i);
    if (s.kind != Step::kWellFormed) break;
    i += s.length;
  }
  return i;
}

std::string_view wide_encoding(std::string_view bytes) {
  using namespace std::string_view_literals;
  if (bytes.starts_with("\xFF\xFE\0\0"sv) || bytes.starts_with("\0\0\xFE\xFF"sv)) return "UTF-32";
  if (bytes.starts_with("\xFF\xFE"sv) || bytes.starts_with("\xFE\xFF"sv)) return "UTF-16";
  // Without a mark: of each pair of bytes always the same one is zero.
  const size_t seen = std::min<size_t>(bytes.size() & ~size_t{1}, 64);
  size_t zeros[2] = {0, 0};
  for (size_t i = 0; i < seen; ++i) zeros[i % 2] += bytes[i] == '\0' ? 1 : 0;
  const size_t pairs = seen / 2;
  const bool is_wide = pairs >= 2 && (zeros[0] == pairs) != (zeros[1] == pairs);
  return is_wide ? "UTF-16" : "";
}

std::string_view utf8_text(std::string_view bytes, const std::filesystem::path& path) {
  const std::string_view wide = wide_encoding(bytes);
  if (!wide.empty()) {
    throw FormatError(path, "byte 0", fmt::format("expected UTF-8, got what looks like {}", wide));
  }
  if (const size_t valid = valid_utf8_prefix(bytes); valid < bytes.size()) {
    throw FormatError(
        path, fmt::format("byte {}", valid),
        fmt::format("expected UTF-8, got the byte 0x{:02X}", static_cast<uint8_t>(bytes[valid])));
  }
  if (bytes.starts_with(kByteOrderMark)) bytes.remove_prefix(kByteOrderMark.size());
  return bytes;
}

size_t settled_prefix(std::string_view bytes) {
  // An unfinished character is at most the last three bytes.
  const size_t from = bytes.size() > 3 ? bytes.size() - 3 : 0;
  for (size_t i = from; i < bytes.size(); ++i) {
    if (static_cast<uint8_t>(bytes[i]) >= 0xC0 && step(bytes, i).kind == Step::kUnfinished) {
      return i;
    }
  }
  return bytes.size();
}

}  // namespace schmidt::text
