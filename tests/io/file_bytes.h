#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt::test {

/// A number as it lies in a little-endian file.
template <class T>
std::string le(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

inline std::string u32(uint32_t value) { return le(value); }
inline std::string u64(uint64_t value) { return le(value); }

/// A safetensors file of this header and so many bytes of data.
inline std::string safetensors(const std::string& header, size_t data_bytes) {
  return u64(header.size()) + header + std::string(data_bytes, '\1');
}

/// GGUF's string: length, then bytes.
inline std::string gguf_text(std::string_view text) { return u64(text.size()) + std::string(text); }

/// One metadata entry; `type` is GGUF's id of the value's type.
inline std::string gguf_entry(std::string_view key, uint32_t type, const std::string& value) {
  return gguf_text(key) + u32(type) + value;
}

/// One line of the tensor table, sizes in GGUF's order.
inline std::string gguf_tensor(std::string_view name, const std::vector<uint64_t>& sizes,
                               uint32_t type, uint64_t offset) {
  std::string bytes = gguf_text(name) + u32(static_cast<uint32_t>(sizes.size()));
  for (const uint64_t size : sizes) bytes += u64(size);
  return bytes + u32(type) + u64(offset);
}

/// A version 3 file, its data section aligned to 32 bytes.
inline std::string gguf(const std::vector<std::string>& entries,
                        const std::vector<std::string>& tensors, size_t data_bytes) {
  std::string bytes = "GGUF" + u32(3) + u64(tensors.size()) + u64(entries.size());
  for (const std::string& entry : entries) bytes += entry;
  for (const std::string& tensor : tensors) bytes += tensor;
  bytes.append((32 - bytes.size() % 32) % 32, '\0');
  return bytes + std::string(data_bytes, '\0');
}

}  // namespace schmidt::test
