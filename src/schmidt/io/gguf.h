#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace schmidt::quant {
struct Format;
}

namespace schmidt::io {

/// Tensor data begins at multiples of so many bytes where general.alignment does not say.
inline constexpr int64_t kGgufAlignment = 32;

/// Of a tensor, at most.
inline constexpr size_t kGgufDimensions = 4;

/// A metadata value. Integers of every width are int64_t; an unsigned one beyond
/// 2^63 - 1 is refused. An array holds one type; arrays of arrays are GgufArrays.
struct GgufValue;
using GgufArrays = std::vector<GgufValue>;
struct GgufValue {
  std::variant<bool, int64_t, float, double, std::string, std::vector<bool>, std::vector<int64_t>,
               std::vector<float>, std::vector<double>, std::vector<std::string>, GgufArrays>
      data;
  /// The format's id of the type that a file stores it in, of an array its items' type; none: the
  /// writer chooses.
  std::optional<uint32_t> type = {};

  bool operator==(const GgufValue&) const = default;
};

/// One entry of the tensor table, checked against the file's size.
struct GgufTensor {
  std::vector<int64_t> shape;             ///< row-major, as torch has it: GGUF's order reversed
  const quant::Format* format = nullptr;  ///< never null in a parsed file
  std::string_view bytes;                 ///< in the mapped file
};

/// A GGUF file of version 2 or 3, little-endian, opened for reading: metadata in
/// memory, tensor data mapped. A model in several files (gguf_split.h) is one GgufFile: the
/// first part's metadata, the tensors of all. Immutable, cheap to copy.
///
/// The getters answer nullopt where the key is absent and throw FormatError
/// where its value has another type: that is the file's mistake.
class GgufFile {
 public:
  /// The whole model, whichever of its parts `path` is.
  /// Throws SystemError if a file cannot be read, FormatError for what it holds, and for a part
  /// that is missing or does not belong.
  static GgufFile open(const std::filesystem::path& path);

  /// This file alone, which may be one part of a model.
  static GgufFile open_part(const std::filesystem::path& path);

  /// The same from memory, which must outlive the result; `path` is for messages.
  static GgufFile parse(std::string_view bytes, const std::filesystem::path& path);

  const std::filesystem::path& path() const;  ///< the first part's
  const std::map<std::string, GgufValue>& metadata() const;
  const std::map<std::string, GgufTensor>& tensors() const;

  std::optional<bool> get_bool(const std::string& key) const;
  std::optional<int64_t> get_int(const std::string& key) const;
  std::optional<double> get_float(const std::string& key) const;  ///< float32 or float64
  std::optional<std::string> get_string(const std::string& key) const;
  std::optional<std::vector<int64_t>> get_ints(const std::string& key) const;
  std::optional<std::vector<float>> get_floats(const std::string& key) const;
  std::optional<std::vector<std::string>> get_strings(const std::string& key) const;

 private:
  struct Impl;
  explicit GgufFile(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<const Impl> impl_;
};

}  // namespace schmidt::io
