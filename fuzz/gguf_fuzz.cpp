#include <cstddef>
#include <cstdint>

#include "schmidt/base/format_error.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/tensor_data.h"

// Parses, decodes every tensor, and sees the file as a Hugging Face model.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto file = schmidt::io::GgufFile::parse(bytes, "fuzz.gguf");
    for (const auto& [name, tensor] : file.tensors()) {
      schmidt::io::decode_tensor(tensor.bytes, *tensor.format, tensor.shape);
    }
    const auto model = schmidt::io::as_hugging_face(file);
    for (const auto& [name, weight] : model.tensors) {
      schmidt::io::load_tensor(weight);
      schmidt::io::load_encoded(weight, nullptr);
    }
  } catch (const schmidt::FormatError&) {
    // What a broken file has to give; anything else is a finding.
  }
  return 0;
}
