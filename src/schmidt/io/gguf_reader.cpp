#include "schmidt/io/gguf_reader.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/lfs_pointer.h"
#include "schmidt/quant/format.h"

namespace schmidt::io {
namespace {

constexpr uint64_t kMaxNameBytes = 65'535;       // the format's own limit for keys
constexpr uint64_t kMaxArrayItems = 1ULL << 26;  // a vocabulary has 2^18 at most
constexpr int kMaxArrayDepth = 8;

// Walks over the file's head; every size is held against what is left of the
// file before anything of that size is made.
class Reader {
 public:
  Reader(std::string_view bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  std::string where;  // the key or tensor being read, for messages
  int array_depth = 0;

  uint64_t position() const { return position_; }

  [[noreturn]] void fail(const std::string& reason) const {
    throw FormatError(path_, where.substr(0, 120), reason);
  }

  std::string_view take(uint64_t count) {
    const uint64_t left = bytes_.size() - position_;
    if (count > left) {
      fail(fmt::format("expected {} bytes at offset {}, found {}", count, position_, left));
    }
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }

  std::string text(uint64_t max_bytes = std::numeric_limits<uint64_t>::max()) {
    const auto length = number<uint64_t>();
    if (length > max_bytes) {
      fail(fmt::format("expected a name of at most {} bytes, found {}", max_bytes, length));
    }
    return std::string(take(length));
  }

  // A count of things that take at least `min_bytes` of the file each.
  uint64_t count(std::string_view what, uint64_t min_bytes) {
    const auto n = number<uint64_t>();
    const uint64_t most = (bytes_.size() - position_) / min_bytes;
    if (n > most) fail(fmt::format("expected at most {} {} in this file, found {}", most, what, n));
    return n;
  }

 private:
  std::string_view bytes_;
  const std::filesystem::path& path_;
  uint64_t position_ = 0;
};

GgufValue read_array(Reader& in);

// One item as it is stored and as it is kept.
template <class Stored, class Kept>
Kept read_item(Reader& in) {
  if constexpr (std::is_same_v<Kept, std::string>) {
    return in.text();
  } else if constexpr (std::is_same_v<Kept, GgufValue>) {
    return read_array(in);
  } else {
    const auto value = in.number<Stored>();
    if constexpr (std::is_same_v<Kept, bool>) {
      if (value > 1) in.fail(fmt::format("expected 0 or 1 for a bool, found {}", value));
    }
    if constexpr (std::is_same_v<Stored, uint64_t>) {
      if (!std::in_range<int64_t>(value)) {
        in.fail(fmt::format("expected an integer below 2^63, found {}", value));
      }
    }
    return static_cast<Kept>(value);
  }
}

template <class Stored, class Kept>
GgufValue read_scalar(Reader& in) {
  return GgufValue{read_item<Stored, Kept>(in)};
}

template <class Stored, class Kept>
GgufValue read_items(Reader& in, uint64_t count) {
  std::vector<Kept> items;
  items.reserve(count);
  for (uint64_t i = 0; i < count; ++i) items.push_back(read_item<Stored, Kept>(in));
  return GgufValue{std::move(items)};
}

struct ValueType {
  uint64_t min_bytes;
  GgufValue (*read)(Reader&);
  GgufValue (*read_many)(Reader&, uint64_t count);
};

template <class Stored, class Kept = int64_t>
constexpr ValueType value_type(uint64_t min_bytes = sizeof(Stored)) {
  return {min_bytes, read_scalar<Stored, Kept>, read_items<Stored, Kept>};
}

// In the order of the ids in the file.
constexpr std::array kValueTypes{
    value_type<uint8_t>(),
    value_type<int8_t>(),
    value_type<uint16_t>(),
    value_type<int16_t>(),
    value_type<uint32_t>(),
    value_type<int32_t>(),
    value_type<float, float>(),
    value_type<uint8_t, bool>(),
    value_type<char, std::string>(8),                        // its length
    ValueType{12, read_array, read_items<char, GgufValue>},  // its type and count
    value_type<uint64_t>(),
    value_type<int64_t>(),
    value_type<double, double>(),
};

uint32_t read_value_type(Reader& in) {
  const auto id = in.number<uint32_t>();
  if (id >= kValueTypes.size()) {
    in.fail(fmt::format("expected a value type below {}, found {}", kValueTypes.size(), id));
  }
  return id;
}

GgufValue read_value(Reader& in) {
  const uint32_t id = read_value_type(in);
  GgufValue value = kValueTypes[id].read(in);
  if (!value.type) value.type = id;  // an array has its items'
  return value;
}

GgufValue read_array(Reader& in) {
  if (++in.array_depth > kMaxArrayDepth) {
    in.fail(fmt::format("expected at most {} nested arrays, found more", kMaxArrayDepth));
  }
  const uint32_t id = read_value_type(in);
  const ValueType& type = kValueTypes[id];
  const uint64_t count = in.count("items", type.min_bytes);
  if (count > kMaxArrayItems) {
    in.fail(fmt::format("expected at most {} items, found {}", kMaxArrayItems, count));
  }
  GgufValue value = type.read_many(in, count);
  value.type = id;
  --in.array_depth;
  return value;
}

void read_magic_and_version(Reader& in) {
  in.where = "header";
  if (in.take(4) != "GGUF") in.fail("expected the magic bytes GGUF, found others");
  const auto version = in.number<uint32_t>();
  if (version != 0 && (version & 0xffff) == 0) {
    in.fail("expected a little-endian file, found a big-endian one");
  }
  if (version != 2 && version != 3) {
    in.fail(fmt::format("expected version 2 or 3, found {}", version));
  }
}

std::map<std::string, GgufValue> read_metadata(Reader& in, uint64_t count) {
  std::map<std::string, GgufValue> metadata;
  for (uint64_t i = 0; i < count; ++i) {
    in.where = fmt::format("metadata entry {}", i);
    const std::string key = in.text(kMaxNameBytes);
    in.where = "metadata " + key;
    GgufValue value = read_value(in);
    if (!metadata.emplace(key, std::move(value)).second) {
      in.fail("expected a key once, found it twice");
    }
  }
  return metadata;
}

uint64_t read_alignment(Reader& in, const std::map<std::string, GgufValue>& metadata) {
  const auto found = metadata.find("general.alignment");
  in.where = "metadata general.alignment";
  const GgufValue value = found == metadata.end() ? GgufValue{kGgufAlignment} : found->second;
  const auto* alignment = std::get_if<int64_t>(&value.data);
  if (alignment == nullptr || *alignment <= 0 || *alignment > (int64_t{1} << 31) ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
    in.fail(fmt::format("expected a power of two up to 2^31, found {}",
                        alignment == nullptr ? "another type" : std::to_string(*alignment)));
  }
  return static_cast<uint64_t>(*alignment);
}

// Where a tensor lies, counted from the start of the data section.
struct Placed {
  std::string name;
  GgufTensor tensor;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

Placed read_tensor_entry(Reader& in, uint64_t index, uint64_t alignment) {
  in.where = fmt::format("tensor {}", index);
  Placed placed;
  placed.name = in.text(kMaxNameBytes);
  in.where = "tensor " + placed.name;

  const auto dimensions = in.number<uint32_t>();
  if (dimensions == 0 || dimensions > kGgufDimensions) {
    in.fail(fmt::format("expected 1 to {} dimensions, found {}", kGgufDimensions, dimensions));
  }
  std::vector<int64_t>& shape = placed.tensor.shape;
  int64_t values = 1;
  for (uint32_t i = 0; i < dimensions; ++i) {
    const auto size = in.number<uint64_t>();
    if (size == 0 || !std::in_range<int64_t>(size) ||
        __builtin_mul_overflow(values, static_cast<int64_t>(size), &values)) {
      in.fail(fmt::format("expected sizes of 1 or more and a product below 2^63, found {}", size));
    }
    shape.push_back(static_cast<int64_t>(size));
  }
  const int64_t row = shape.front();  // GGUF names the fastest dimension first
  std::ranges::reverse(shape);

  const auto type = in.number<uint32_t>();
  const quant::Format* format = quant::find_format(type);
  if (format == nullptr) {
    in.fail(fmt::format("expected one of {}, found ggml type {}", quant::format_names(), type));
  }
  placed.tensor.format = format;
  if (row % format->values != 0) {
    in.fail(fmt::format("expected rows of a multiple of {} values for {}, found {}", format->values,
                        format->name, row));
  }
  if (__builtin_mul_overflow(static_cast<uint64_t>(values / format->values),
                             static_cast<uint64_t>(format->bytes), &placed.bytes)) {
    in.fail("expected fewer than 2^64 bytes");
  }
  placed.offset = in.number<uint64_t>();
  if (placed.offset % alignment != 0) {
    in.fail(fmt::format("expected an offset that is a multiple of {}, found {}", alignment,
                        placed.offset));
  }
  return placed;
}

// Sets each tensor's bytes. No two may share any: ggml writes them one after another.
void place(Reader& in, std::vector<Placed>& placed, std::string_view data) {
  std::ranges::sort(placed, {}, &Placed::offset);
  uint64_t end = 0;
  for (Placed& p : placed) {
    in.where = "tensor " + p.name;
    if (p.offset > data.size() || p.bytes > data.size() - p.offset) {
      in.fail(fmt::format("expected {} bytes at offset {} of the data, found {} bytes of data",
                          p.bytes, p.offset, data.size()));
    }
    if (p.offset < end) {
      in.fail(
          fmt::format("expected an offset of at least {}, where the tensor before it ends, "
                      "found {}",
                      end, p.offset));
    }
    end = p.offset + p.bytes;
    p.tensor.bytes = data.substr(p.offset, p.bytes);
  }
}

}  // namespace

GgufContent read_gguf(std::string_view bytes, const std::filesystem::path& path) {
  refuse_lfs_pointer(bytes, path);
  Reader in(bytes, path);
  read_magic_and_version(in);
  const uint64_t tensor_count = in.count("tensors", 24);
  const uint64_t metadata_count = in.count("metadata entries", 12);
  GgufContent content;
  content.metadata = read_metadata(in, metadata_count);
  const uint64_t alignment = read_alignment(in, content.metadata);

  std::vector<Placed> placed;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    placed.push_back(read_tensor_entry(in, i, alignment));
  }
  const uint64_t data_begin = (in.position() + alignment - 1) / alignment * alignment;
  place(in, placed, bytes.substr(std::min<uint64_t>(data_begin, bytes.size())));
  for (Placed& p : placed) {
    in.where = "tensor " + p.name;
    if (!content.tensors.emplace(p.name, std::move(p.tensor)).second) {
      in.fail("expected a name once, found it twice");
    }
  }
  return content;
}

}  // namespace schmidt::io
