#include "schmidt/package/remote_code.h"

#include <string_view>

#include "schmidt/base/atomic_file.h"

namespace schmidt::embedded {
extern const std::string_view configuration_schmidt;  // python/huggingface, at build time
extern const std::string_view layers_schmidt;
extern const std::string_view modeling_schmidt;
}  // namespace schmidt::embedded

namespace schmidt::package {

void add_remote_code(const std::filesystem::path& folder, nlohmann::json& config) {
  write_file_atomically(folder / "configuration_schmidt.py", embedded::configuration_schmidt);
  write_file_atomically(folder / "layers_schmidt.py", embedded::layers_schmidt);
  write_file_atomically(folder / "modeling_schmidt.py", embedded::modeling_schmidt);
  config["auto_map"]["AutoModelForCausalLM"] = "modeling_schmidt.SchmidtForCausalLM";
}

}  // namespace schmidt::package
