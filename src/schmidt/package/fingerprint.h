#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"

namespace schmidt::package {

/// A 64-bit FNV-1a hash that is fed piece by piece. It tells accidental mix-ups
/// apart; it is no defence against somebody who wants two inputs to collide.
/// Source: Fowler, Noll, Vo; parameters as in draft-eastlake-fnv.
class Fingerprint {
 public:
  Fingerprint& add(std::string_view bytes);
  Fingerprint& add(const torch::Tensor& tensor);  ///< bytes of its numbers
  std::string hex() const;

 private:
  uint64_t state_ = 0xcbf29ce484222325ULL;
};

/// Identifies a model by its config, by every tensor's name, shape and format, and by
/// 2 KiB of what is stored of each, taken evenly. Independent of where the model lies.
std::string fingerprint(const io::Checkpoint& checkpoint);

/// What lies beside the weights of a model and decides what it reads and says, by its contents:
/// the tokenizer's files, chat templates and settings of generation in a folder; of a GGUF file its
/// first 16 MiB, which hold them. Throws SystemError.
std::string fingerprint_beside_weights(const std::filesystem::path& model);

}  // namespace schmidt::package
