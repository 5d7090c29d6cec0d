#pragma once

#include <filesystem>

namespace schmidt::io {

/// What a path that is named as a model leads to: a Hugging Face folder, or a GGUF file. A file
/// is GGUF by its first bytes, whatever its name (Ollama keeps its models as blobs/sha256-...).
enum class ModelPath { kFolder, kGguf };

/// Throws c10::ValueError if nothing is there, or a file of another format; FormatError for a
/// Git LFS pointer and for what is no regular file; SystemError where the system refuses.
ModelPath kind_of_model_path(const std::filesystem::path& path);

}  // namespace schmidt::io
