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
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) throw SystemError("cannot read", path, EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string read_stdin() { return {std::istreambuf_iterator<char>(std::cin), {}}; }

}  // namespace schmidt::cli
