#include "schmidt/serve/model_names.h"

#include <map>
#include <set>
#include <system_error>

#include <c10/util/Exception.h>

#include "schmidt/base/escaped_bytes.h"

namespace schmidt::serve {
namespace {

namespace fs = std::filesystem;

// Absolute, without "..", and with a last part.
fs::path whole_path(const fs::path& path) {
  const fs::path whole = (fs::current_path() / path).lexically_normal();
  return whole.has_filename() ? whole : whole.parent_path();
}

// The more of the path, the longer: the plain name, that of the file, that with folders above it.
std::string name_of(const fs::path& whole, int length) {
  fs::path name = whole.filename();
  if (length == 0 && name.extension() == ".gguf") name = name.stem();
  fs::path folder = whole.parent_path();
  for (int i = 1; i < length && folder.has_filename(); ++i, folder = folder.parent_path()) {
    name = folder.filename() / name;
  }
  return name.empty() ? "model" : name.string();
}

}  // namespace

std::vector<std::string> model_names(const std::vector<fs::path>& paths) {
  std::set<fs::path> seen;
  for (const fs::path& path : paths) {
    std::error_code unknown;
    const fs::path place = fs::weakly_canonical(whole_path(path), unknown);
    TORCH_CHECK_VALUE(seen.insert(unknown ? whole_path(path) : place).second,
                      "[serve] expected each model once, got ", escaped_bytes(path.string()),
                      " twice");
  }
  std::vector<std::string> names(paths.size());
  std::vector<size_t> open(paths.size());  // those without a name of their own so far
  for (size_t i = 0; i < open.size(); ++i) open[i] = i;
  for (int length = 0; !open.empty(); ++length) {
    std::map<std::string, std::vector<size_t>> called;
    for (const size_t i : open) called[name_of(whole_path(paths[i]), length)].push_back(i);
    open.clear();
    for (const auto& [name, models] : called) {
      if (models.size() == 1) {
        names[models[0]] = escaped_bytes(name);
      } else {
        open.insert(open.end(), models.begin(), models.end());
      }
    }
  }
  return names;
}

}  // namespace schmidt::serve
