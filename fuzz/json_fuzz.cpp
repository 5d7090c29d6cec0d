#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"

// What is accepted is written and read again: the same value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const nlohmann::json value = schmidt::io::parse_json(text, "fuzz.json");
    if (schmidt::io::parse_json(value.dump(), "again.json") != value) std::abort();
  } catch (const schmidt::FormatError&) {
    // What a broken file has to give; anything else is a finding.
  }
  return 0;
}
