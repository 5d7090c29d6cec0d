#include "schmidt/text/normalizer.h"

#include <cstdlib>
#include <map>
#include <memory>

#include <c10/util/Exception.h>
#include <utf8proc.h>

#include "schmidt/text/byte_level.h"
#include "schmidt/text/pattern.h"
#include "schmidt/text/unicode_properties.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

// utf8proc's options for a form; `text` holds only characters that it may change.
std::string normalize_run(std::string_view text, int form) {
  struct Free {
    void operator()(utf8proc_uint8_t* p) const { std::free(p); }
  };
  utf8proc_uint8_t* bytes = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &bytes,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form));
  const std::unique_ptr<utf8proc_uint8_t, Free> owner(bytes);
  TORCH_INTERNAL_ASSERT(length >= 0, utf8proc_errmsg(length));
  return std::string(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

// A character that the form does not know is inert, so what stands before it and
// behind it is normalized apart.
std::string normalize(std::string_view text, int form) {
  std::string result;
  size_t run = 0;
  const auto flush = [&](size_t end) {
    if (end > run) result += normalize_run(text.substr(run, end - run), form);
  };
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = code_point_at(text, i);
    if (is_unknown_to_normalization(c.value)) {
      flush(i);
      result += text.substr(i, c.length);
      run = i + c.length;
    }
    i += c.length;
  }
  flush(text.size());
  return result;
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

Normalizer unicode_form(int form) {
  return [form](const std::string& text) { return is_ascii(text) ? text : normalize(text, form); };
}

Normalizer make_sequence(const JsonView& json) {
  std::vector<Normalizer> steps;
  for (const JsonView& item : json.at("normalizers").items())
    steps.push_back(make_normalizer(item));
  return [steps](std::string text) {
    for (const Normalizer& step : steps) text = step(std::move(text));
    return text;
  };
}

Normalizer make_prepend(const JsonView& json) {
  return [prefix = json.at("prepend").string()](const std::string& text) {
    return text.empty() ? text : prefix + text;
  };
}

Normalizer make_replace(const JsonView& json) {
  return [pattern = Pattern(json.at("pattern")), content = json.at("content").string()](
             const std::string& text) { return pattern.replace_all(text, content); };
}

Normalizer make_strip(const JsonView& json) {
  const bool left = json.boolean_or("strip_left", true);
  const bool right = json.boolean_or("strip_right", true);
  return [left, right](const std::string& text) {
    size_t begin = 0, end = text.size();
    while (left && begin < end) {
      const CodePoint c = code_point_at(text, begin);
      if (!is_white_space(c.value)) break;
      begin += c.length;
    }
    while (right && end > begin) {
      const CodePoint c = code_point_before(text, end);
      if (!is_white_space(c.value)) break;
      end -= c.length;
    }
    return text.substr(begin, end - begin);
  };
}

Normalizer make_lowercase(const JsonView&) {
  return [](const std::string& text) {
    std::string result;
    for (size_t i = 0; i < text.size();) {
      const CodePoint c = code_point_at(text, i);
      // The one character whose lower case is two: I with dot above.
      if (c.value == 0x130) {
        result += "i\xCC\x87";
      } else {
        append_utf8(result, to_lower(c.value));
      }
      i += c.length;
    }
    return result;
  };
}

using Builder = Normalizer (*)(const JsonView&);

const std::map<std::string, Builder>& builders() {
  static const std::map<std::string, Builder> kTable = {
      {"Sequence", make_sequence},
      {"NFC", [](const JsonView&) { return unicode_form(UTF8PROC_COMPOSE); }},
      {"NFD", [](const JsonView&) { return unicode_form(UTF8PROC_DECOMPOSE); }},
      {"NFKC", [](const JsonView&) { return unicode_form(UTF8PROC_COMPOSE | UTF8PROC_COMPAT); }},
      {"NFKD", [](const JsonView&) { return unicode_form(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT); }},
      {"Prepend", make_prepend},
      {"Replace", make_replace},
      {"Strip", make_strip},
      {"Lowercase", make_lowercase},
      {"ByteLevel", [](const JsonView&) -> Normalizer { return to_byte_characters; }}};
  return kTable;
}

}  // namespace

Normalizer make_normalizer(const JsonView& json) {
  return json.at("type").look_up(builders(), "normalizer")(json);
}

}  // namespace schmidt::text
