#include <cstddef>
#include <cstdint>

#include "schmidt/base/format_error.h"
#include "schmidt/text/tokenizer.h"

// A tokenizer that opens also encodes, and decodes what it made.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer = schmidt::text::Tokenizer::from_json(text);
    constexpr std::string_view kSample = "a  1\xc3\xa9 <s>\xff";
    tokenizer.decode(tokenizer.encode(kSample, {.add_special = true}));
  } catch (const schmidt::FormatError&) {
    // What a broken file has to give; anything else is a finding.
  }
  return 0;
}
