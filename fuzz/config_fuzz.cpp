#include <cstddef>
#include <cstdint>

#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"
#include "schmidt/model/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    schmidt::model::parse_config(schmidt::io::parse_json(text, "config.json"), "config.json");
  } catch (const schmidt::FormatError&) {
    // What a broken file has to give; anything else is a finding.
  }
  return 0;
}
