#include "schmidt/io/hub_cache.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/io/json.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFolderPrefix = "models--";
constexpr std::string_view kIndex = "model.safetensors.index.json";

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// The hub's rule for the two parts of an id, in ASCII.
bool is_hub_name(std::string_view name) {
  constexpr size_t kLongest = 96;
  return !name.empty() && name.size() <= kLongest && is_word(name.front()) &&
         is_word(name.back()) && name.find("..") == name.npos && name.find("--") == name.npos &&
         std::ranges::all_of(name, [](char c) { return is_word(c) || c == '-' || c == '.'; });
}

/// A name in git, of parts that are plain names of files.
bool is_revision(std::string_view revision) {
  constexpr size_t kLongest = 200;
  if (revision.empty() || revision.size() > kLongest) return false;
  while (true) {
    const size_t end = std::min(revision.find('/'), revision.size());
    const std::string_view part = revision.substr(0, end);
    const bool is_plain =
        !part.empty() && part.front() != '.' &&
        std::ranges::all_of(part, [](char c) { return is_word(c) || c == '-' || c == '.'; });
    if (!is_plain) return false;
    if (end == revision.size()) return true;
    revision.remove_prefix(end + 1);
  }
}

fs::path without_last_slash(const fs::path& path) {
  const fs::path normal = path.lexically_normal();
  return normal.filename().empty() ? normal.parent_path() : normal;
}

bool is_commit(std::string_view text) {
  return text.size() == 40 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::optional<fs::path> variable(const char* name) {
  const char* const value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  const std::string_view text = value;
  const char* const home = std::getenv("HOME");
  if (home != nullptr && (text == "~" || text.starts_with("~/"))) {
    return fs::path(home) / text.substr(std::min<size_t>(2, text.size()));
  }
  return fs::path(text);
}

/// "models--ORG--NAME".
std::string folder_of(const std::string& repository) {
  const size_t slash = repository.find('/');
  return fmt::format("{}{}--{}", kFolderPrefix, repository.substr(0, slash),
                     repository.substr(slash + 1));
}

std::string download_command(const HubModel& model) {
  return "hf download " + model.repository +
         (model.revision == "main" ? "" : " --revision " + model.revision);
}

/// The commit that a revision is; nullopt where the cache has no such revision.
std::optional<std::string> commit_of(const fs::path& repository, const std::string& revision) {
  const fs::path file = repository / "refs" / revision;
  if (is_plain_file(file)) {
    std::ifstream in(file, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(in), {}};
    text.erase(text.find_last_not_of(" \r\n") + 1);
    // Anything else could be a path.
    if (!is_commit(text)) throw FormatError(file, "", "expected a commit of 40 digits");
    return text;
  }
  if (is_commit(revision)) return revision;
  return std::nullopt;
}

std::vector<std::string> commits_in(const fs::path& repository) {
  std::vector<std::string> commits;
  if (!is_folder(repository / "snapshots")) return commits;
  for (const fs::path& entry : folder_entries(repository / "snapshots")) {
    if (is_commit(entry.filename().string())) commits.push_back(entry.filename().string());
  }
  return commits;
}

bool downloads_in(const fs::path& repository) {
  if (!is_folder(repository / "blobs")) return false;
  return std::ranges::any_of(folder_entries(repository / "blobs"), [](const fs::path& blob) {
    return blob.extension() == ".incomplete";
  });
}

bool is_weights(const fs::path& file) {
  const fs::path ending = file.extension();
  return ending == ".safetensors" || ending == ".gguf" || ending == ".bin";
}

/// The file that a download has not brought yet; nullopt where all is there that can be told.
std::optional<std::string> missing_file(const fs::path& snapshot, const fs::path& repository) {
  const std::vector<fs::path> entries = folder_entries(snapshot);
  for (const fs::path& entry : entries) {
    if (!path_exists(entry)) return entry.filename().string();  // its link leads nowhere
  }
  if (path_exists(snapshot / kIndex)) {
    const nlohmann::json index = read_json_object(snapshot / kIndex);
    const auto weight_map = index.find("weight_map");
    if (weight_map == index.end() || !weight_map->is_object()) return std::nullopt;
    for (const auto& [tensor, file] : weight_map->items()) {
      // A shard's name that is a path is refused where the index is read in earnest.
      if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) continue;
      if (!path_exists(snapshot / file.get<std::string>())) return file.get<std::string>();
    }
    return std::nullopt;
  }
  if (std::ranges::none_of(entries, is_weights) && downloads_in(repository)) return "its weights";
  return std::nullopt;
}

/// In a folder of GGUF files the only one, or the first part of the only one.
std::optional<fs::path> only_gguf(const fs::path& snapshot) {
  if (path_exists(snapshot / "config.json")) return std::nullopt;
  std::vector<fs::path> found;
  for (const fs::path& entry : folder_entries(snapshot)) {
    if (entry.extension() != ".gguf") continue;
    const std::string name = entry.filename().string();
    const bool later_part =
        name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
    if (!later_part) found.push_back(entry);
  }
  if (found.size() != 1) return std::nullopt;
  return found.front();
}

fs::path snapshot_of(const HubModel& model, const std::string& name) {
  const auto cache = hub_cache();
  const fs::path repository = cache ? *cache / folder_of(model.repository) : fs::path();
  const bool known = cache && is_folder(repository);
  const auto commit = known ? commit_of(repository, model.revision) : std::nullopt;
  const fs::path snapshot = commit ? repository / "snapshots" / *commit : fs::path();
  const bool found = commit && is_folder(snapshot);
  const std::vector<std::string> others =
      known ? commits_in(repository) : std::vector<std::string>();
  TORCH_CHECK_VALUE(
      found, "[model] expected a model folder, a GGUF file or a model of Hugging Face's cache",
      cache ? " (" + cache->string() + ")" : "", ", got \"", name, "\", which does not exist",
      others.empty()
          ? ""
          : fmt::format(" (the cache has {} at {})", model.repository, fmt::join(others, ", ")),
      is_weights(name) ? "" : "; \"" + download_command(model) + "\" fetches it");
  if (const auto missing = missing_file(snapshot, repository)) {
    throw FormatError(
        snapshot, *missing,
        fmt::format("expected a finished download, found none; \"{}\" goes on with it",
                    download_command(model)));
  }
  return snapshot;
}

}  // namespace

std::optional<HubModel> parse_hub_model(std::string_view name) {
  const size_t slash = name.find('/');
  if (slash == name.npos) return std::nullopt;
  HubModel model;
  const size_t at = name.find('@', slash);
  if (at != name.npos) {
    if (!is_revision(name.substr(at + 1))) return std::nullopt;
    model.revision = std::string(name.substr(at + 1));
  }
  const std::string_view repository = name.substr(0, at);
  if (!is_hub_name(repository.substr(0, slash)) || !is_hub_name(repository.substr(slash + 1))) {
    return std::nullopt;
  }
  model.repository = std::string(repository);
  return model;
}

std::optional<fs::path> hub_cache() {
  for (const char* name : {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"}) {
    if (const auto folder = variable(name)) return folder;
  }
  if (const auto home = variable("HF_HOME")) return *home / "hub";
  if (const auto caches = variable("XDG_CACHE_HOME")) return *caches / "huggingface" / "hub";
  if (const auto home = variable("HOME")) return *home / ".cache" / "huggingface" / "hub";
  return std::nullopt;
}

fs::path locate_model(const fs::path& name) {
  const auto model = parse_hub_model(name.native());
  if (!model || path_exists(name)) return name;
  const fs::path snapshot = snapshot_of(*model, name.string());
  return only_gguf(snapshot).value_or(snapshot);
}

std::optional<std::string> hub_name(const fs::path& path) {
  const fs::path folder = without_last_slash(path);
  for (const fs::path& snapshot : {folder, folder.parent_path()}) {
    const std::string repository = snapshot.parent_path().parent_path().filename().string();
    if (snapshot.parent_path().filename() != "snapshots" ||
        !repository.starts_with(kFolderPrefix)) {
      continue;
    }
    const std::string_view rest = std::string_view(repository).substr(kFolderPrefix.size());
    const size_t middle = rest.find("--");
    if (middle == rest.npos) continue;
    return fmt::format("{}/{}", rest.substr(0, middle), rest.substr(middle + 2));
  }
  return std::nullopt;
}

std::string model_name(const fs::path& path) { return hub_name(path).value_or(last_name(path)); }

}  // namespace schmidt::io
