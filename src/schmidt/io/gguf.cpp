#include "schmidt/io/gguf.h"

#include <array>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_reader.h"
#include "schmidt/io/gguf_split.h"
#include "schmidt/io/mapped_file.h"

namespace schmidt::io {
namespace {

// In the order of GgufValue's alternatives.
constexpr std::array<std::string_view, 11> kTypeNames{
    "a bool",
    "an integer",
    "a float32",
    "a float64",
    "a string",
    "an array of bools",
    "an array of integers",
    "an array of float32",
    "an array of float64",
    "an array of strings",
    "an array of arrays",
};
static_assert(std::variant_size_v<decltype(GgufValue::data)> == kTypeNames.size());

template <class T>
std::optional<T> get(const GgufFile& file, const std::string& key, std::string_view expected) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return std::nullopt;
  const auto* value = std::get_if<T>(&found->second.data);
  if (value == nullptr) {
    throw FormatError(
        file.path(), "metadata " + key,
        fmt::format("expected {}, found {}", expected, kTypeNames[found->second.data.index()]));
  }
  return *value;
}

}  // namespace

struct GgufFile::Impl {
  std::filesystem::path path;
  std::unique_ptr<const MappedFile> file;  // null when parsed from memory, or of several files
  std::vector<GgufFile> parts;             // of a model in several files: what keeps them mapped
  GgufContent content;
};

GgufFile GgufFile::open(const std::filesystem::path& path) {
  std::vector<GgufFile> parts = open_gguf_parts(path);
  if (parts.size() == 1) return parts.front();
  auto impl = std::make_shared<Impl>();
  impl->path = parts.front().path();
  impl->content.metadata = parts.front().metadata();
  for (const GgufFile& part : parts) {
    for (const auto& [name, tensor] : part.tensors()) {
      if (!impl->content.tensors.emplace(name, tensor).second) {
        throw FormatError(part.path(), "tensor " + name,
                          "expected a tensor in one part, found it in another one too");
      }
    }
  }
  impl->parts = std::move(parts);
  return GgufFile(std::move(impl));
}

GgufFile GgufFile::open_part(const std::filesystem::path& path) {
  auto impl = std::make_shared<Impl>();
  impl->path = path;
  impl->file = std::make_unique<MappedFile>(path);
  impl->content = read_gguf(impl->file->bytes(), path);
  return GgufFile(std::move(impl));
}

GgufFile GgufFile::parse(std::string_view bytes, const std::filesystem::path& path) {
  auto impl = std::make_shared<Impl>();
  impl->path = path;
  impl->content = read_gguf(bytes, path);
  return GgufFile(std::move(impl));
}

const std::filesystem::path& GgufFile::path() const { return impl_->path; }
const std::map<std::string, GgufValue>& GgufFile::metadata() const {
  return impl_->content.metadata;
}
const std::map<std::string, GgufTensor>& GgufFile::tensors() const {
  return impl_->content.tensors;
}

std::optional<bool> GgufFile::get_bool(const std::string& key) const {
  return get<bool>(*this, key, "a bool");
}

std::optional<int64_t> GgufFile::get_int(const std::string& key) const {
  return get<int64_t>(*this, key, "an integer");
}

std::optional<double> GgufFile::get_float(const std::string& key) const {
  const auto found = metadata().find(key);
  if (found != metadata().end() && std::holds_alternative<float>(found->second.data)) {
    return std::get<float>(found->second.data);
  }
  return get<double>(*this, key, "a float");
}

std::optional<std::string> GgufFile::get_string(const std::string& key) const {
  return get<std::string>(*this, key, "a string");
}

std::optional<std::vector<int64_t>> GgufFile::get_ints(const std::string& key) const {
  return get<std::vector<int64_t>>(*this, key, "an array of integers");
}

std::optional<std::vector<float>> GgufFile::get_floats(const std::string& key) const {
  return get<std::vector<float>>(*this, key, "an array of float32");
}

std::optional<std::vector<std::string>> GgufFile::get_strings(const std::string& key) const {
  return get<std::vector<std::string>>(*this, key, "an array of strings");
}

}  // namespace schmidt::io
