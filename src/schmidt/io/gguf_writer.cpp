#include "schmidt/io/gguf_writer.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <set>
#include <type_traits>
#include <utility>

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"

namespace schmidt::io {
namespace {

// The format's ids of types.
enum Type : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12
};

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, std::string_view text) {
  put<uint64_t>(out, text.size());
  out += text;
}

void put_integer(std::string& out, uint32_t type, int64_t value) {
  switch (type) {
    case kUint8:
    case kInt8:
      return put(out, static_cast<uint8_t>(value));
    case kUint16:
    case kInt16:
      return put(out, static_cast<uint16_t>(value));
    case kUint32:
    case kInt32:
      return put(out, static_cast<uint32_t>(value));
    case kUint64:
    case kInt64:
      return put(out, value);
    default:
      TORCH_CHECK_VALUE(false, "[gguf] expected a type of integers, got ", type);
  }
}

bool fits_int32(int64_t value) { return std::in_range<int32_t>(value); }

template <class T>
constexpr bool is_vector = false;
template <class T>
constexpr bool is_vector<std::vector<T>> = true;

/// The type of a value, of an array that of its items.
uint32_t type_of(const GgufValue& value) {
  if (value.type) return *value.type;
  return std::visit(
      [](const auto& data) -> uint32_t {
        using Data = std::decay_t<decltype(data)>;
        if constexpr (std::is_same_v<Data, int64_t>) {
          if (data < 0) return fits_int32(data) ? kInt32 : kInt64;
          return std::in_range<uint32_t>(data) ? kUint32 : kUint64;
        } else if constexpr (std::is_same_v<Data, std::vector<int64_t>>) {
          return std::ranges::all_of(data, fits_int32) ? kInt32 : kInt64;
        } else if constexpr (std::is_same_v<Data, bool> ||
                             std::is_same_v<Data, std::vector<bool>>) {
          return kBool;
        } else if constexpr (std::is_same_v<Data, float> ||
                             std::is_same_v<Data, std::vector<float>>) {
          return kFloat32;
        } else if constexpr (std::is_same_v<Data, double> ||
                             std::is_same_v<Data, std::vector<double>>) {
          return kFloat64;
        } else if constexpr (std::is_same_v<Data, GgufArrays>) {
          return kArray;
        } else {
          return kString;
        }
      },
      value.data);
}

void put_array(std::string& out, const GgufValue& value);

template <class Item>
void put_item(std::string& out, uint32_t type, const Item& item) {
  if constexpr (std::is_same_v<Item, std::string>) {
    put_text(out, item);
  } else if constexpr (std::is_same_v<Item, int64_t>) {
    put_integer(out, type, item);
  } else if constexpr (std::is_same_v<Item, bool>) {
    put<uint8_t>(out, item ? 1 : 0);
  } else if constexpr (std::is_same_v<Item, GgufValue>) {
    put_array(out, item);
  } else {
    put(out, item);
  }
}

// The items' type, how many there are, and they themselves.
void put_array(std::string& out, const GgufValue& value) {
  const uint32_t type = type_of(value);
  put(out, type);
  std::visit(
      [&](const auto& items) {
        using Items = std::decay_t<decltype(items)>;
        if constexpr (is_vector<Items>) {
          put<uint64_t>(out, items.size());
          for (const typename Items::value_type& item : items) put_item(out, type, item);
        } else {
          TORCH_CHECK_VALUE(false, "[gguf] expected an array among arrays, got a single value");
        }
      },
      value.data);
}

void put_value(std::string& out, const GgufValue& value) {
  std::visit(
      [&](const auto& data) {
        if constexpr (is_vector<std::decay_t<decltype(data)>>) {
          put<uint32_t>(out, kArray);
          put_array(out, value);
        } else {
          const uint32_t type = type_of(value);
          put(out, type);
          put_item(out, type, data);
        }
      },
      value.data);
}

uint64_t alignment_of(const std::map<std::string, GgufValue>& metadata) {
  const auto found = metadata.find("general.alignment");
  if (found == metadata.end()) return kGgufAlignment;
  const auto* alignment = std::get_if<int64_t>(&found->second.data);
  TORCH_CHECK_VALUE(alignment != nullptr && *alignment > 0 &&
                        std::has_single_bit(static_cast<uint64_t>(*alignment)),
                    "[gguf] expected a power of two as general.alignment");
  return static_cast<uint64_t>(*alignment);
}

uint64_t rounded_up(uint64_t bytes, uint64_t alignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

std::string head_of(const std::map<std::string, GgufValue>& metadata,
                    const std::vector<GgufTensorSpec>& specs, uint64_t alignment) {
  std::string head = "GGUF";
  put<uint32_t>(head, 3);
  put<uint64_t>(head, specs.size());
  put<uint64_t>(head, metadata.size());
  for (const auto& [key, value] : metadata) {
    put_text(head, key);
    put_value(head, value);
  }
  uint64_t offset = 0;
  for (const GgufTensorSpec& spec : specs) {
    put_text(head, spec.name);
    put<uint32_t>(head, static_cast<uint32_t>(spec.shape.size()));
    for (auto size = spec.shape.rbegin(); size != spec.shape.rend(); ++size) {
      put<uint64_t>(head, static_cast<uint64_t>(*size));
    }
    put(head, spec.format->ggml_type);
    put(head, offset);
    offset += rounded_up(gguf_tensor_bytes(spec), alignment);
  }
  head.resize(rounded_up(head.size(), alignment), '\0');
  return head;
}

}  // namespace

uint64_t gguf_tensor_bytes(const GgufTensorSpec& spec) {
  TORCH_CHECK_VALUE(
      spec.format != nullptr && !spec.shape.empty() && spec.shape.size() <= kGgufDimensions,
      "[gguf] expected a format and 1 to ", kGgufDimensions, " sizes for ", spec.name, ", got ",
      spec.shape.size(), " sizes");
  TORCH_CHECK_VALUE(spec.shape.back() % spec.format->values == 0,
                    "[gguf] expected rows of a multiple of ", spec.format->values, " values for ",
                    std::string(spec.format->name), ", got ", spec.shape.back(), " in ", spec.name);
  int64_t bytes = spec.format->bytes;
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    const bool is_row = i + 1 == spec.shape.size();
    const int64_t count = is_row ? spec.shape[i] / spec.format->values : spec.shape[i];
    TORCH_CHECK_VALUE(count > 0 && !__builtin_mul_overflow(bytes, count, &bytes),
                      "[gguf] expected sizes of 1 or more and fewer than 2^63 bytes for ",
                      spec.name);
  }
  return static_cast<uint64_t>(bytes);
}

struct GgufWriter::Impl {
  std::vector<GgufTensorSpec> specs;
  uint64_t alignment;
  size_t next = 0;  // of the specs
  AtomicFile file;
};

GgufWriter::GgufWriter(const std::filesystem::path& path,
                       const std::map<std::string, GgufValue>& metadata,
                       std::vector<GgufTensorSpec> specs) {
  std::set<std::string> names;
  for (const GgufTensorSpec& spec : specs) {
    TORCH_CHECK_VALUE(names.insert(spec.name).second, "[gguf] expected a tensor once, got ",
                      spec.name, " twice");
  }
  const uint64_t alignment = alignment_of(metadata);
  const std::string head = head_of(metadata, specs, alignment);
  impl_.reset(new Impl{std::move(specs), alignment, 0, AtomicFile(path)});
  impl_->file.write(head);
}

GgufWriter::~GgufWriter() = default;

void GgufWriter::write(const std::string& name, std::string_view bytes) {
  Impl& w = *impl_;
  TORCH_CHECK_VALUE(w.next < w.specs.size() && w.specs[w.next].name == name, "[gguf] expected ",
                    w.next < w.specs.size() ? w.specs[w.next].name : "no further tensor", ", got ",
                    name);
  const uint64_t expected = gguf_tensor_bytes(w.specs[w.next]);
  TORCH_CHECK_VALUE(bytes.size() == expected, "[gguf] expected ", expected, " bytes of ", name,
                    ", got ", bytes.size());
  w.file.write(bytes);
  w.file.write(std::string(rounded_up(expected, w.alignment) - expected, '\0'));
  ++w.next;
}

void GgufWriter::finish() {
  TORCH_CHECK_VALUE(impl_->next == impl_->specs.size(), "[gguf] expected ", impl_->specs.size(),
                    " tensors, got ", impl_->next);
  impl_->file.commit();
}

}  // namespace schmidt::io
