#include "schmidt/io/checkpoint.h"

#include <variant>

#include "schmidt/io/gguf_model.h"
#include "schmidt/io/hf_folder.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/io/model_path.h"
#include "schmidt/io/tensor_data.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;

TensorInfo info(const HfTensor& tensor) {
  const size_t scales = tensor.scales ? tensor.scales->bytes.size() : 0;
  return {tensor.shape, loaded_dtype(tensor), std::string(tensor.dtype->name),
          tensor.bytes.size() + scales};
}

TensorInfo info(const GgufWeight& weight) {
  const auto dtype = weight.offset != 0.0 ? torch::kFloat32 : decoded_dtype(*weight.format);
  return {weight.shape, dtype, std::string(weight.format->name), weight.bytes.size()};
}

EncodedTensor encoded_tensor(const HfTensor& tensor, std::shared_ptr<const void> file) {
  TORCH_CHECK_VALUE(!tensor.scales, "[checkpoint] expected a tensor in one of ",
                    quant::format_names(), ", got ", std::string(tensor.dtype->name),
                    " with scales");
  const quant::Format* format = quant::find_format(tensor.dtype->name);
  TORCH_CHECK_VALUE(format != nullptr, "[checkpoint] expected a tensor in one of ",
                    quant::format_names(), ", got ", std::string(tensor.dtype->name));
  return {format, tensor.shape, tensor.bytes, std::move(file)};
}

EncodedTensor encoded_tensor(const GgufWeight& weight, std::shared_ptr<const void> file) {
  return load_encoded(weight, std::move(file));
}

std::vector<std::string_view> bytes_of(const HfTensor& tensor) {
  if (!tensor.scales) return {tensor.bytes};
  return {tensor.bytes, tensor.scales->bytes};
}

std::vector<std::string_view> bytes_of(const GgufWeight& weight) { return {weight.bytes}; }

template <typename Tensors>
const auto& find_tensor(const Tensors& tensors, const std::string& name, const fs::path& path) {
  const auto found = tensors.find(name);
  TORCH_CHECK_VALUE(found != tensors.end(), "[checkpoint] expected a tensor of ", path.string(),
                    ", got ", name);
  return found->second;
}

std::variant<HfFolder, GgufModel> open_source(const fs::path& path) {
  if (kind_of_model_path(path) == ModelPath::kFolder) return open_hf_folder(path);
  return open_gguf_model(path);
}

}  // namespace

struct Checkpoint::Impl {
  fs::path path;
  std::variant<HfFolder, GgufModel> source;
  std::map<std::string, TensorInfo> tensors;
};

Checkpoint Checkpoint::open(const fs::path& name) {
  const fs::path path = locate_model(name);
  auto impl = std::make_shared<Impl>(Impl{path, open_source(path), {}});
  std::visit(
      [&](const auto& source) {
        for (const auto& [name, tensor] : source.tensors) impl->tensors.emplace(name, info(tensor));
      },
      impl->source);
  Checkpoint checkpoint;
  checkpoint.impl_ = std::move(impl);
  return checkpoint;
}

const fs::path& Checkpoint::path() const { return impl_->path; }

bool Checkpoint::is_gguf() const { return std::holds_alternative<GgufModel>(impl_->source); }

const std::vector<std::string>& Checkpoint::notes() const {
  static const std::vector<std::string> kNone;
  const auto* folder = std::get_if<HfFolder>(&impl_->source);
  return folder != nullptr ? folder->notes : kNone;
}

const nlohmann::json& Checkpoint::config() const {
  return std::visit([](const auto& s) -> const nlohmann::json& { return s.config; }, impl_->source);
}

const nlohmann::json& Checkpoint::generation_config() const {
  return std::visit([](const auto& s) -> const nlohmann::json& { return s.generation_config; },
                    impl_->source);
}

const std::map<std::string, TensorInfo>& Checkpoint::tensors() const { return impl_->tensors; }

torch::Tensor Checkpoint::load(const std::string& name) const {
  return std::visit(
      [&](const auto& source) {
        const auto& stored = find_tensor(source.tensors, name, impl_->path);
        torch::Tensor tensor = load_tensor(stored);
        for (const std::string_view bytes : bytes_of(stored)) forget_pages(bytes);
        return tensor;
      },
      impl_->source);
}

EncodedTensor Checkpoint::load_encoded(const std::string& name) const {
  return std::visit(
      [&](const auto& source) {
        const auto& stored = find_tensor(source.tensors, name, impl_->path);
        EncodedTensor encoded = encoded_tensor(stored, impl_);
        if (encoded.memory != impl_) {
          for (const std::string_view bytes : bytes_of(stored)) forget_pages(bytes);
        }
        return encoded;
      },
      impl_->source);
}

std::vector<std::string_view> Checkpoint::stored_bytes(const std::string& name) const {
  return std::visit(
      [&](const auto& source) { return bytes_of(find_tensor(source.tensors, name, impl_->path)); },
      impl_->source);
}

}  // namespace schmidt::io
