#include "schmidt/io/tensor_data.h"

#include <algorithm>
#include <cstring>

#include <ATen/Parallel.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/ScalarType.h>

#include "schmidt/io/mapped_file.h"

namespace schmidt::io {
namespace {

// Large: a few milliseconds of work, so that threads pay even on a busy machine.
constexpr int64_t kCopyGrain = 1 << 24;    // bytes
constexpr int64_t kForgetGrain = 1 << 20;  // bytes
constexpr int64_t kDecodeGrain = 1 << 22;  // values
constexpr int64_t kEncodeGrain = 1 << 18;  // values: a search for each block

torch::Tensor new_tensor(c10::IntArrayRef shape, torch::ScalarType dtype) {
  return torch::empty(shape, torch::TensorOptions().dtype(dtype).device(torch::kCPU));
}

}  // namespace

torch::Tensor copy_tensor(std::string_view bytes, torch::ScalarType dtype, c10::IntArrayRef shape,
                          Pages pages) {
  // A torch bool must hold 0 or 1; the file may hold anything.
  if (dtype == torch::kBool) return copy_tensor(bytes, torch::kUInt8, shape, pages).ne(0);
  torch::Tensor tensor = new_tensor(shape, dtype);
  TORCH_INTERNAL_ASSERT(tensor.nbytes() == bytes.size());
  auto* out = static_cast<char*>(tensor.data_ptr());
  at::parallel_for(0, static_cast<int64_t>(bytes.size()), kCopyGrain,
                   [&](int64_t begin, int64_t end) {
                     for (int64_t at = begin; at < end; at += kForgetGrain) {
                       const auto length = static_cast<size_t>(std::min(kForgetGrain, end - at));
                       std::memcpy(out + at, bytes.data() + at, length);
                       if (pages == Pages::kGivenBack) forget_pages({bytes.data() + at, length});
                     }
                   });
  return tensor;
}

torch::ScalarType decoded_dtype(const quant::Format& format) {
  if (format.name == "F16") return torch::kFloat16;
  if (format.name == "BF16") return torch::kBFloat16;
  return torch::kFloat32;
}

torch::Tensor decode_tensor(std::string_view bytes, const quant::Format& format,
                            c10::IntArrayRef shape) {
  if (format.values == 1) return copy_tensor(bytes, decoded_dtype(format), shape);
  torch::Tensor tensor = new_tensor(shape, torch::kFloat32);
  const int64_t blocks = tensor.numel() / format.values;
  TORCH_INTERNAL_ASSERT(static_cast<int64_t>(bytes.size()) == blocks * format.bytes);
  const auto* in = reinterpret_cast<const uint8_t*>(bytes.data());
  float* out = tensor.mutable_data_ptr<float>();
  at::parallel_for(0, blocks, kDecodeGrain / format.values, [&](int64_t begin, int64_t end) {
    format.decode(in + begin * format.bytes, end - begin, out + begin * format.values);
  });
  return tensor;
}

std::string encode_tensor(const torch::Tensor& tensor, const quant::Format& format,
                          const std::string& name) {
  TORCH_CHECK_VALUE(tensor.dim() > 0 && tensor.size(-1) % format.values == 0,
                    "[encode] expected rows of a multiple of ", format.values, " values for ",
                    std::string(format.name), ", got ", tensor.sizes(), " in ", name);
  const torch::ScalarType dtype = decoded_dtype(format);
  const torch::Tensor values = tensor.to(dtype).contiguous();
  TORCH_CHECK_VALUE(at::isfinite(values).all().item<bool>(),
                    "[encode] expected finite values that ", std::string(format.name),
                    " can hold in ", name);
  if (format.values == 1) {
    return {static_cast<const char*>(values.const_data_ptr()), values.nbytes()};
  }
  const int64_t blocks = values.numel() / format.values;
  std::string bytes(static_cast<size_t>(blocks * format.bytes), '\0');
  const float* in = values.const_data_ptr<float>();
  auto* out = reinterpret_cast<uint8_t*>(bytes.data());
  at::parallel_for(0, blocks, kEncodeGrain / format.values, [&](int64_t begin, int64_t end) {
    format.encode(in + begin * format.values, end - begin, out + begin * format.bytes);
  });
  return bytes;
}

}  // namespace schmidt::io
