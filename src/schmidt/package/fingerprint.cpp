#include "schmidt/package/fingerprint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/io/json.h"

namespace schmidt::package {
namespace {

/// Pieces taken evenly from the whole, the first and the last bytes among them.
void add_sample(Fingerprint& hash, std::string_view bytes) {
  constexpr size_t kPieces = 32, kPiece = 64;
  if (bytes.size() <= kPieces * kPiece) {
    hash.add(bytes);
    return;
  }
  for (size_t i = 0; i < kPieces; ++i) {
    hash.add(bytes.substr(i * (bytes.size() - kPiece) / (kPieces - 1), kPiece));
  }
}

}  // namespace

Fingerprint& Fingerprint::add(std::string_view bytes) {
  const auto mix = [this](unsigned char byte) { state_ = (state_ ^ byte) * 0x100000001b3ULL; };
  for (const char c : bytes) mix(static_cast<unsigned char>(c));
  mix(0xff);  // so that ("ab", "c") and ("a", "bc") differ; no UTF-8 text holds 0xff
  return *this;
}

Fingerprint& Fingerprint::add(const torch::Tensor& tensor) {
  const torch::Tensor here = tensor.cpu().contiguous();
  return add({static_cast<const char*>(here.const_data_ptr()), here.nbytes()});
}

std::string Fingerprint::hex() const { return fmt::format("{:016x}", state_); }

std::string fingerprint(const io::Checkpoint& checkpoint) {
  Fingerprint hash;
  hash.add(io::json_text(checkpoint.config()));
  for (const auto& [name, info] : checkpoint.tensors()) {
    hash.add(name).add(info.stored_as).add(fmt::format("{}", fmt::join(info.shape, "x")));
    for (const std::string_view bytes : checkpoint.stored_bytes(name)) add_sample(hash, bytes);
  }
  return hash.hex();
}

}  // namespace schmidt::package
