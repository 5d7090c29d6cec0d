#include "schmidt/io/model_path.h"

#include <c10/util/Exception.h>

#include "schmidt/base/file_system.h"
#include "schmidt/io/lfs_pointer.h"
#include "schmidt/io/mapped_file.h"

namespace schmidt::io {

ModelPath kind_of_model_path(const std::filesystem::path& path) {
  TORCH_CHECK_VALUE(path_exists(path), "[model] expected a model folder or a GGUF file, got \"",
                    path.string(), "\", which does not exist");
  if (is_folder(path)) return ModelPath::kFolder;
  const MappedFile file(path);
  refuse_lfs_pointer(file.bytes(), path);
  // Whoever names a file .gguf is told what is wrong with it as such.
  TORCH_CHECK_VALUE(file.bytes().starts_with("GGUF") || path.extension() == ".gguf",
                    "[model] expected a model folder or a GGUF file, got \"", path.string(), "\"");
  return ModelPath::kGguf;
}

}  // namespace schmidt::io
