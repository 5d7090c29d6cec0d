#include <algorithm>
#include <cstring>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/io/lfs_pointer.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/safetensors_dtypes.h"

namespace schmidt::io {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the reference implementation

// The JSON text between the length and the data.
std::string_view header_text(std::string_view bytes, const fs::path& path) {
  refuse_lfs_pointer(bytes, path);
  if (bytes.size() < kLengthBytes) {
    throw FormatError(path, "header",
                      fmt::format("expected at least 8 bytes, found {}", bytes.size()));
  }
  uint64_t length;
  std::memcpy(&length, bytes.data(), sizeof length);
  if (length > kMaxHeaderBytes) {
    throw FormatError(
        path, "header",
        fmt::format("expected a header of at most {} bytes, found {}", kMaxHeaderBytes, length));
  }
  if (length > bytes.size() - kLengthBytes) {
    throw FormatError(path, "header",
                      fmt::format("expected {} bytes of header, found {}: the file "
                                  "is cut short",
                                  length, bytes.size() - kLengthBytes));
  }
  const std::string_view text = bytes.substr(kLengthBytes, length);
  if (!text.starts_with('{')) {
    throw FormatError(path, "header", "expected a header that starts with {");
  }
  return text;
}

uint64_t unsigned_number(const json& value, const fs::path& path, const std::string& name) {
  if (!value.is_number_unsigned()) {
    throw FormatError(path, name, "expected sizes and offsets of 0 or more, found another value");
  }
  return value.get<uint64_t>();
}

const json& member(const json& object, const char* key, json::value_t type, const fs::path& path,
                   const std::string& name) {
  const auto found = object.find(key);
  if (found == object.end() || found->type() != type) {
    throw FormatError(path, name,
                      fmt::format("expected {} as {}, found {}", key, json(type).type_name(),
                                  found == object.end() ? "nothing" : found->type_name()));
  }
  return *found;
}

SafetensorsEntry parse_entry(const std::string& name, const json& value, const fs::path& path,
                             uint64_t data_begin) {
  if (!value.is_object()) throw FormatError(path, name, "expected an object");
  SafetensorsEntry entry;
  entry.dtype = member(value, "dtype", json::value_t::string, path, name).get<std::string>();
  const SafetensorsDtype* dtype = find_safetensors_dtype(entry.dtype);
  if (dtype == nullptr) {
    throw FormatError(path, name, fmt::format("unknown dtype {}", entry.dtype.substr(0, 40)));
  }

  uint64_t bytes = c10::elementSize(dtype->dtype);
  for (const json& size : member(value, "shape", json::value_t::array, path, name)) {
    const uint64_t n = unsigned_number(size, path, name);
    if (!std::in_range<int64_t>(n) || __builtin_mul_overflow(bytes, n, &bytes)) {
      throw FormatError(path, name, "expected a shape of fewer than 2^64 bytes, found more");
    }
    entry.shape.push_back(static_cast<int64_t>(n));
  }

  const json& offsets = member(value, "data_offsets", json::value_t::array, path, name);
  if (offsets.size() != 2) throw FormatError(path, name, "expected two data_offsets");
  const uint64_t begin = unsigned_number(offsets[0], path, name);
  const uint64_t end = unsigned_number(offsets[1], path, name);
  if (end < begin || end - begin != bytes) {
    throw FormatError(
        path, name,
        fmt::format("expected {} bytes for its dtype and shape, found offsets {} to {}", bytes,
                    begin, end));
  }
  if (__builtin_add_overflow(begin, data_begin, &entry.begin) ||
      __builtin_add_overflow(end, data_begin, &entry.end)) {
    throw FormatError(path, name, "expected offsets in the file, found ones beyond 2^64");
  }
  return entry;
}

// The data is one tensor after another, from the header to the end of the file.
void check_coverage(const SafetensorsHeader& header, uint64_t data_begin, uint64_t file_size,
                    const fs::path& path) {
  std::vector<std::pair<const std::string*, const SafetensorsEntry*>> entries;
  for (const auto& [name, entry] : header.tensors) entries.emplace_back(&name, &entry);
  std::ranges::sort(entries, {},
                    [](const auto& e) { return std::pair(e.second->begin, e.second->end); });
  uint64_t end = data_begin;
  for (const auto& [name, entry] : entries) {
    if (entry->begin != end) {
      throw FormatError(path, *name,
                        fmt::format("expected data at offset {}, found {}: {}", end - data_begin,
                                    entry->begin - data_begin,
                                    entry->begin < end ? "it overlaps another tensor's"
                                                       : "there is a hole before it"));
    }
    end = entry->end;
  }
  if (end != file_size) {
    throw FormatError(path, "",
                      fmt::format("expected a file of {} bytes, found {}: {}", end, file_size,
                                  file_size < end ? "it is cut short" : "bytes trail the data"));
  }
}

}  // namespace

SafetensorsHeader parse_safetensors(std::string_view bytes, const fs::path& path) {
  const std::string_view text = header_text(bytes, path);
  const json root = parse_json(text, path, {.max_bytes = kMaxHeaderBytes, .max_depth = 4});
  const uint64_t data_begin = kLengthBytes + text.size();
  SafetensorsHeader header;
  for (const auto& [name, value] : root.items()) {
    if (name != "__metadata__") {
      header.tensors.emplace(name, parse_entry(name, value, path, data_begin));
      continue;
    }
    if (!value.is_object()) throw FormatError(path, name, "expected an object");
    for (const auto& [key, text_value] : value.items()) {
      if (!text_value.is_string()) throw FormatError(path, name, "expected strings only");
      header.metadata.emplace(key, text_value.get<std::string>());
    }
  }
  check_coverage(header, data_begin, bytes.size(), path);
  return header;
}

}  // namespace schmidt::io
