#include "schmidt/package/fingerprint.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
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

/// Of files that do not say what weights are: "tokenizer.json", "chat_template.jinja", "vocab.txt".
constexpr std::string_view kBesideWeights[] = {".json", ".jinja", ".txt", ".model"};

void add_file(Fingerprint& hash, const std::filesystem::path& file, uint64_t most) {
  std::string bytes(static_cast<size_t>(std::min(bytes_of_file(file), most)), '\0');
  std::ifstream stream(file, std::ios::binary);
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(bytes.size()))) {
    throw SystemError("cannot read", file, errno);
  }
  hash.add(bytes);
}

void add_folder(Fingerprint& hash, const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files = folder_entries(folder);
  std::ranges::sort(files);
  for (const std::filesystem::path& file : files) {
    const std::string name = last_name(file), ending = file.extension().string();
    const bool is_of_weights = name == "config.json" || name.ends_with(".index.json");
    if (is_of_weights || std::ranges::find(kBesideWeights, ending) == std::end(kBesideWeights) ||
        !is_plain_file(file)) {
      continue;
    }
    hash.add(name);
    add_file(hash, file, std::numeric_limits<uint64_t>::max());
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

std::string fingerprint_beside_weights(const std::filesystem::path& model) {
  Fingerprint hash;
  if (!is_folder(model)) {
    add_file(hash, model, uint64_t{16} << 20);
    return hash.hex();
  }
  add_folder(hash, model);
  const std::filesystem::path templates = model / "additional_chat_templates";
  if (is_folder(templates)) add_folder(hash, templates);
  return hash.hex();
}

}  // namespace schmidt::package
