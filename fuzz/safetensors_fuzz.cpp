#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "schmidt/base/format_error.h"
#include "schmidt/io/safetensors.h"

// What is accepted covers the file from its header to its end, byte for byte.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto header = schmidt::io::parse_safetensors(bytes, "fuzz.safetensors");
    uint64_t covered = 0;
    for (const auto& [name, entry] : header.tensors) {
      if (entry.end < entry.begin || entry.end > size) std::abort();
      covered += entry.end - entry.begin;
    }
    if (covered > size) std::abort();
  } catch (const schmidt::FormatError&) {
    // What a broken file has to give; anything else is a finding.
  }
  return 0;
}
