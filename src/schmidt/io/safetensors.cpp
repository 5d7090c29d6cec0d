#include "schmidt/io/safetensors.h"

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/io/safetensors_dtypes.h"
#include "schmidt/io/safetensors_layout.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {

std::map<std::string, torch::Tensor> load_safetensors(const std::filesystem::path& path,
                                                      std::string_view prefix) {
  const MappedFile file(path);
  const SafetensorsHeader header = parse_safetensors(file.bytes(), path);
  std::map<std::string, torch::Tensor> tensors;
  for (const auto& [name, entry] : header.tensors) {
    if (!name.starts_with(prefix)) continue;
    tensors.emplace(name, copy_tensor(file.bytes().substr(entry.begin, entry.end - entry.begin),
                                      find_safetensors_dtype(entry.dtype)->dtype, entry.shape));
  }
  return tensors;
}

void save_safetensors(const std::filesystem::path& path,
                      const std::vector<std::pair<std::string, torch::Tensor>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, tensor] : tensors) {
    TORCH_CHECK_VALUE(tensor.defined(), "[save_safetensors] expected a tensor for ", name,
                      ", got none");
    specs.push_back({name, tensor.scalar_type(), tensor.sizes().vec()});
  }
  const SafetensorsLayout layout = lay_out(specs, metadata);
  AtomicFile file(path);
  file.write(layout.head);
  for (size_t i = 0; i < specs.size(); ++i) {
    const torch::Tensor data = tensors[i].second.cpu().contiguous();
    file.write_at(layout.offsets[i], data.const_data_ptr(), data.nbytes());
  }
  file.commit();
}

}  // namespace schmidt::io
