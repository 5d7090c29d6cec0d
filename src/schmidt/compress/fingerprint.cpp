#include "schmidt/compress/fingerprint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace schmidt::compress {

Fingerprint& Fingerprint::add(std::string_view bytes) {
  const auto mix = [this](unsigned char byte) { state_ = (state_ ^ byte) * 0x100000001b3ULL; };
  for (const char c : bytes) mix(static_cast<unsigned char>(c));
  mix(0xff);  // so that ("ab", "c") and ("a", "bc") differ; no UTF-8 text holds 0xff
  return *this;
}

std::string Fingerprint::hex() const { return fmt::format("{:016x}", state_); }

std::string fingerprint(const io::Checkpoint& checkpoint) {
  Fingerprint hash;
  hash.add(checkpoint.config().dump());
  for (const auto& [name, info] : checkpoint.tensors()) {
    hash.add(name).add(info.stored_as).add(fmt::format("{}", fmt::join(info.shape, "x")));
    if (info.shape.size() == 1) {
      const torch::Tensor values = checkpoint.load(name).contiguous();
      hash.add({static_cast<const char*>(values.data_ptr()), values.nbytes()});
    }
  }
  return hash.hex();
}

}  // namespace schmidt::compress
