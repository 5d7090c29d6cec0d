#include "schmidt/io/json.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/lfs_pointer.h"
#include "schmidt/io/mapped_file.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

// Builds the value while the parser runs, so that a limit stops it at once.
// nlohmann's own builder keeps the last of two equal keys and has no depth limit.
class StrictBuilder : public nlohmann::json_sax<json> {
 public:
  StrictBuilder(const std::filesystem::path& path, const JsonLimits& limits)
      : path_(path), limits_(limits) {}

  json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // not part of JSON text

  bool start_object(size_t) override { return open(json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(json::array()); }
  bool end_array() override { return close(); }

  bool key(string_t& name) override {
    auto& object = open_.back()->get_ref<json::object_t&>();
    const auto [entry, fresh] = object.emplace(name, nullptr);
    if (!fresh) throw FormatError(path_, name.substr(0, 80), "expected a key once, found it twice");
    slot_ = &entry->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& error) override {
    throw FormatError(path_, fmt::format("byte {}", position), reason(error.what()));
  }

 private:
  // Where the next value goes: the slot of a key, the end of an array, the root.
  json* add(json value) {
    json* place = &root_;
    if (slot_ != nullptr) {
      place = std::exchange(slot_, nullptr);
    } else if (!open_.empty()) {
      auto& array = open_.back()->get_ref<json::array_t&>();
      place = &array.emplace_back();
    }
    *place = std::move(value);
    return place;
  }

  bool open(json empty) {
    if (open_.size() >= static_cast<size_t>(limits_.max_depth)) {
      throw FormatError(
          path_, "",
          fmt::format("expected at most {} nested levels, found more", limits_.max_depth));
    }
    open_.push_back(add(std::move(empty)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax
  // error while ...; last read: '...'": the middle, since the tail is the file's.
  static std::string reason(std::string_view what) {
    if (const size_t tag = what.find("] "); tag != what.npos) what.remove_prefix(tag + 2);
    what = what.substr(0, what.find("; last read"));
    return "not valid JSON: " + std::string(what.substr(0, 200));
  }

  const std::filesystem::path& path_;
  const JsonLimits& limits_;
  json root_;
  json* slot_ = nullptr;
  std::vector<json*> open_;
};

template <typename Json>
Json escaped(const Json& value) {
  if (value.is_string()) return escaped_bytes(value.template get_ref<const std::string&>());
  Json result = value;
  if (value.is_array()) {
    for (Json& element : result) element = escaped(element);
  } else if (value.is_object()) {
    result = Json::object();
    for (const auto& [key, element] : value.items()) {
      result[escaped_bytes(key)] = escaped(element);
    }
  }
  return result;
}

template <typename Json>
std::string text_of(const Json& value, int indent) {
  try {
    return value.dump(indent);
  } catch (const nlohmann::json::type_error&) {  // the one that dump throws
    return escaped(value).dump(indent);
  }
}

}  // namespace

std::string json_text(const json& value, int indent) { return text_of(value, indent); }

std::string json_text(const nlohmann::ordered_json& value, int indent) {
  return text_of(value, indent);
}

namespace {

/// The text with null in place of NaN and infinities, which Python writes and JSON does not know.
std::string without_non_finite(std::string_view text) {
  constexpr std::string_view kLiterals[] = {"NaN", "-Infinity", "Infinity"};
  std::string result;
  result.reserve(text.size());
  bool in_string = false;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (in_string && c == '\\' && at + 1 < text.size()) {
      result += text.substr(at, 2);
      at += 2;
      continue;
    }
    if (c == '"') in_string = !in_string;
    const auto* literal = std::ranges::find_if(
        kLiterals, [&](std::string_view l) { return text.substr(at).starts_with(l); });
    if (in_string || literal == std::end(kLiterals)) {
      result += c;
      ++at;
    } else {
      result += "null";
      at += literal->size();
    }
  }
  return result;
}

json parsed(std::string_view text, const std::filesystem::path& path, const JsonLimits& limits) {
  StrictBuilder builder(path, limits);
  json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

}  // namespace

json parse_json(std::string_view text, const std::filesystem::path& path,
                const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    throw FormatError(
        path, "",
        fmt::format("expected at most {} bytes of JSON, found {}", limits.max_bytes, text.size()));
  }
  refuse_lfs_pointer(text, path);
  try {
    return parsed(text, path, limits);
  } catch (const FormatError&) {
    if (!limits.non_finite_is_null) throw;
    const std::string standard = without_non_finite(text);
    if (standard == text) throw;
    return parsed(standard, path, limits);
  }
}

bool is_blank_file(const std::filesystem::path& path) {
  return MappedFile(path).bytes().find_first_not_of(" \t\r\n") == std::string_view::npos;
}

json read_json(const std::filesystem::path& path, const JsonLimits& limits) {
  const MappedFile file(path);
  JsonLimits of_files = limits;
  of_files.non_finite_is_null = true;
  return parse_json(file.bytes(), path, of_files);
}

json read_json_object(const std::filesystem::path& path, const JsonLimits& limits) {
  json value = read_json(path, limits);
  if (!value.is_object()) {
    throw FormatError(path, "", fmt::format("expected a JSON object, found {}", value.type_name()));
  }
  return value;
}

namespace {

/// The member, unless it is absent or null. Throws FormatError if `is_right` denies it.
template <typename IsRight>
const json* member(const json& object, const char* key, const std::filesystem::path& path,
                   std::string_view expected, const IsRight& is_right) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  if (found == object.end() || found->is_null()) return nullptr;
  if (!is_right(*found)) {
    throw FormatError(path, key, fmt::format("expected {}, got {}", expected, found->type_name()));
  }
  return &*found;
}

}  // namespace

std::string string_or(const json& object, const char* key, std::string fallback,
                      const std::filesystem::path& path) {
  const json* value =
      member(object, key, path, "a string", [](const json& v) { return v.is_string(); });
  return value != nullptr ? value->get<std::string>() : fallback;
}

int64_t integer_or(const json& object, const char* key, int64_t fallback,
                   const std::filesystem::path& path) {
  const json* value =
      member(object, key, path, "an integer", [](const json& v) { return v.is_number_integer(); });
  return value != nullptr ? value->get<int64_t>() : fallback;
}

bool boolean_or(const json& object, const char* key, bool fallback,
                const std::filesystem::path& path) {
  const json* value =
      member(object, key, path, "true or false", [](const json& v) { return v.is_boolean(); });
  return value != nullptr ? value->get<bool>() : fallback;
}

}  // namespace schmidt::io
