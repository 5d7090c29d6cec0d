#pragma once

#include <filesystem>
#include <vector>

#include "schmidt/io/gguf.h"

namespace schmidt::io {

/// The files of the model that the file `path` belongs to, in order: itself where it holds the
/// whole model, and else every part, whichever is named. llama.cpp's gguf-split writes them:
/// - named NAME-00001-of-00003.gguf and so on, beside each other;
/// - each with split.no (from 0) and split.count, and split.tensors.count, the tensors of all;
/// - the first with all other metadata. A count of 0 or 1 is a whole model.
/// Throws FormatError naming a part that is missing, or that does not belong: another number or
/// count than its name says, or tensors that do not add up; what GgufFile::open_part throws.
std::vector<GgufFile> open_gguf_parts(const std::filesystem::path& path);

}  // namespace schmidt::io
