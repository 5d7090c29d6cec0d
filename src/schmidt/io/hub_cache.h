#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

/// Models of Hugging Face's hub by their ids, as far as the local cache holds them. Nothing here
/// asks the network. The cache keeps files by their content and shows each revision as a folder:
///
///     models--ORG--NAME/refs/main              the commit that this revision is
///                      /snapshots/COMMIT/file  a link to ../../blobs/HASH
///                      /blobs/HASH, HASH.incomplete
namespace schmidt::io {

/// What "ORG/NAME" or "ORG/NAME@REVISION" names. No part of either can lead out of the cache.
struct HubModel {
  std::string repository;         ///< "ORG/NAME", by the hub's own rule for names
  std::string revision = "main";  ///< a branch, a tag or a whole commit
};

/// nullopt where `name` is no id: "model", "./a/b", "../a", "/a/b", "a/b/c".
std::optional<HubModel> parse_hub_model(std::string_view name);

/// The cache's folder, whether or not it is there: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE,
/// HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub, the first whose
/// variable is set. nullopt where not even HOME is.
std::optional<std::filesystem::path> hub_cache();

/// Where a model lies that a user names by a path or an id. What exists at the path is meant first;
/// an id becomes the folder of its snapshot, or the only GGUF file in one without a config.json.
/// What is neither comes back as it is. Throws c10::ValueError, with the command that downloads it,
/// for an id that is not in the cache; FormatError for an unfinished download.
std::filesystem::path locate_model(const std::filesystem::path& name);

/// "ORG/NAME" of a snapshot in a cache of the hub, or of a file in one; nullopt of other paths.
std::optional<std::string> hub_name(const std::filesystem::path& path);

/// What a model at a path is called: its `hub_name`, elsewhere the last part of the path.
std::string model_name(const std::filesystem::path& path);

}  // namespace schmidt::io
