#include "schmidt/io/gguf_split.h"

#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCount = "split.count";
constexpr const char* kNumber = "split.no";
constexpr const char* kTensors = "split.tensors.count";
constexpr int64_t kMostParts = 65'535;  // split.count has sixteen bits

[[noreturn]] void fail(const GgufFile& part, const std::string& key, const std::string& reason) {
  throw FormatError(part.path(), "metadata " + key, reason);
}

int64_t required(const GgufFile& part, const char* key) {
  const std::optional<int64_t> value = part.get_int(key);
  if (!value) fail(part, key, "expected a value in one part of a model, found none");
  return *value;
}

// What the name of part `number`, counted from 0, ends in.
std::string name_ending(int64_t number, int64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

// The name that all parts begin with.
std::string common_name(const GgufFile& part, int64_t number, int64_t count) {
  const std::string name = part.path().filename().string();
  const std::string ending = name_ending(number, count);
  if (!name.ends_with(ending)) {
    throw FormatError(part.path(), "",
                      fmt::format("expected a name that ends in {}, by which the other parts are "
                                  "found: the file is part {} of a model in {}",
                                  ending, number + 1, count));
  }
  return name.substr(0, name.size() - ending.size());
}

GgufFile open_other(const fs::path& path, int64_t number, int64_t count) {
  if (!path_exists(path)) {
    throw FormatError(path, "",
                      fmt::format("expected part {} of a model in {} files, found no such file",
                                  number + 1, count));
  }
  GgufFile part = GgufFile::open_part(path);
  const auto expect = [&](const char* key, int64_t expected) {
    const int64_t found = required(part, key);
    if (found != expected) {
      fail(part, key,
           fmt::format("expected {}, as the file's name says, found {}", expected, found));
    }
  };
  expect(kCount, count);
  expect(kNumber, number);
  return part;
}

void check_tensors(const std::vector<GgufFile>& parts) {
  int64_t tensors = 0;
  for (const GgufFile& part : parts) tensors += static_cast<int64_t>(part.tensors().size());
  for (const GgufFile& part : parts) {
    const int64_t expected = required(part, kTensors);
    if (tensors != expected) {
      fail(part, kTensors,
           fmt::format("expected {} tensors in the {} parts of the model, found {}", expected,
                       parts.size(), tensors));
    }
  }
}

}  // namespace

std::vector<GgufFile> open_gguf_parts(const fs::path& path) {
  const GgufFile named = GgufFile::open_part(path);
  const int64_t count = named.get_int(kCount).value_or(0);
  if (count < 0 || count > kMostParts) {
    fail(named, kCount, fmt::format("expected 0 to {}, found {}", kMostParts, count));
  }
  if (count <= 1) return {named};
  const int64_t number = required(named, kNumber);
  if (number < 0 || number >= count) {
    fail(named, kNumber, fmt::format("expected 0 to {}, found {}", count - 1, number));
  }
  const std::string common = common_name(named, number, count);
  std::vector<GgufFile> parts;
  for (int64_t i = 0; i < count; ++i) {
    parts.push_back(
        i == number ? named
                    : open_other(path.parent_path() / (common + name_ending(i, count)), i, count));
  }
  check_tensors(parts);
  return parts;
}

}  // namespace schmidt::io
