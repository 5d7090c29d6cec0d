#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/mapped_file.h"
#include "schmidt/io/scaled_tensor.h"

namespace schmidt::io {

/// A file of a model folder.
struct FolderFile {
  std::filesystem::path path;
  /// Whether it is a link to something outside the folder. A folder may come from strangers:
  /// such a file may be read, but not copied to where others read it.
  bool is_outside = false;
};

/// The file `name` of a model folder; nullopt if there is none. Links are followed. What
/// lies below the folder is inside, and so is one layout of links, that of Hugging Face's
/// cache: REPO/snapshots/REV/name leading to REPO/blobs/HASH.
/// Throws FormatError if `name` is no plain file name, SystemError if the system refuses.
std::optional<FolderFile> find_in_folder(const std::filesystem::path& folder,
                                         const std::string& name);

/// A Hugging Face model folder: config.json, generation_config.json (an empty
/// object where there is none) and the weights of model.safetensors, or of the
/// shards that model.safetensors.index.json names. Config and tensors are of the model as it
/// is read: without quantization and scales, and with one head.
struct HfFolder {
  nlohmann::json config;
  nlohmann::json generation_config;
  std::map<std::string, HfTensor> tensors;
  std::vector<std::unique_ptr<const MappedFile>> files;
  std::vector<std::string> notes;  ///< for the user: what is not as it seems
};

/// Reads everything but the data. Throws FormatError for a folder without a
/// config or safetensors weights (pickles are never read), for weights quantized in a
/// format that is not read (before they are opened), for what a file holds, and where the
/// index and its shards disagree; SystemError if a file cannot be read.
HfFolder open_hf_folder(const std::filesystem::path& folder);

}  // namespace schmidt::io
