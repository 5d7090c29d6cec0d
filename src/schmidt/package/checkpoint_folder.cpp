#include "schmidt/package/checkpoint_folder.h"

#include <algorithm>
#include <array>
#include <exception>

#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/io/safetensors.h"

namespace schmidt::package {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFiles = {
    "config.json", "generation_config.json", "model.safetensors", "model.safetensors.index.json",
    "README.md", "configuration_schmidt.py", "layers_schmidt.py", "modeling_schmidt.py",
    // Of the tokenizer, in any of its forms.
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja",
    // Of healing.
    "heal.jsonl", "heal.html"};

/// Folders of unfinished work, which a kill at the very end may leave in a checkpoint.
constexpr std::array kWork = {"layers", "run"};

bool is_shard(const std::string& name) {
  const size_t of = name.find("-of-");
  return of != std::string::npos && is_numbered(name.substr(0, of), "model-") &&
         is_numbered(name.substr(of), "-of-", ".safetensors");
}

bool is_file_of_a_checkpoint(const std::string& name) {
  const std::string whole = whole_name(name);
  return name == kLockFile || std::ranges::find(kFiles, whole) != kFiles.end() || is_shard(whole);
}

bool is_own(const std::string& name) {
  return is_file_of_a_checkpoint(name) || std::ranges::find(kWork, name) != kWork.end();
}

bool says_how_it_was_made(const fs::path& config) {
  try {
    const nlohmann::json read = io::read_json_object(config);
    const auto compression = read.find("compression_config");
    if (compression == read.end() || !compression->is_object()) return false;
    const auto made_by = compression->find("made_by");
    return made_by != compression->end() && made_by->is_array() && !made_by->empty();
  } catch (const std::exception&) {  // whatever it is, it was not written here
    return false;
  }
}

bool is_exported(const fs::path& folder) {
  try {
    for (const fs::path& entry : folder_entries(folder)) {
      const std::string name = entry.filename().string();
      if (name != "model.safetensors" && !is_shard(name)) continue;
      const io::MappedFile file(entry);
      return io::parse_safetensors(file.bytes(), entry).metadata == kExportMetadata;
    }
  } catch (const std::exception&) {  // whatever it is, it was not written here
  }
  return false;
}

std::optional<std::string> foreign(const fs::path& folder) {
  if (auto name = foreign_name(folder, is_own)) return name;
  if (says_how_it_was_made(folder / "config.json") || is_exported(folder)) return std::nullopt;
  return "a model without compression_config";
}

}  // namespace

const std::map<std::string, std::string> kExportMetadata = {{"format", "pt"},
                                                            {"made_by", "schmidt export"}};

FolderKind checkpoint_folder() { return {foreign, is_own}; }

FolderKind export_folder() { return {foreign, is_file_of_a_checkpoint}; }

}  // namespace schmidt::package
