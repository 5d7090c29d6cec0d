#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace schmidt::serve {

/// Names for models by their paths: "models/small/" and "models/small.gguf" are "small". Where
/// several would be called alike, they keep the extensions of files, then take up as many folders
/// above them as tell them apart: "a/small", "b/small".
/// Throws c10::ValueError where a path, links followed, is there twice.
std::vector<std::string> model_names(const std::vector<std::filesystem::path>& paths);

}  // namespace schmidt::serve
