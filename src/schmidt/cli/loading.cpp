#include "schmidt/cli/loading.h"

#include <cerrno>
#include <fstream>
#include <iostream>
#include <iterator>

#include "schmidt/base/format_error.h"

namespace schmidt::cli {

model::Model load_model(const io::Checkpoint& checkpoint, const CommonOptions& options) {
  return model::Model::load(checkpoint,
                            {options.torch_dtype(torch::kFloat32), options.torch_device()});
}

std::string read_text(const std::string& path) {
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (in.bad() || std::filesystem::is_directory(path))
    throw SystemError("cannot read", path, EISDIR);
  return text;
}

std::string read_stdin() { return {std::istreambuf_iterator<char>(std::cin), {}}; }

}  // namespace schmidt::cli
