#include "schmidt/io/safetensors_layout.h"

#include <algorithm>
#include <numeric>
#include <set>
#include <string_view>
#include <tuple>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "schmidt/io/safetensors_dtypes.h"

namespace schmidt::io {
namespace {

const SafetensorsDtype& dtype_of(const TensorSpec& spec) {
  const SafetensorsDtype* dtype = find_safetensors_dtype(spec.dtype);
  TORCH_CHECK_VALUE(dtype != nullptr, "[safetensors] expected a dtype that the format has for ",
                    spec.name, ", got ", c10::toString(spec.dtype));
  return *dtype;
}

std::string to_json(const nlohmann::json& value) {
  try {
    return value.dump();
  } catch (const nlohmann::json::type_error&) {
    TORCH_CHECK_VALUE(false, "[safetensors] expected names and metadata in UTF-8, got other bytes");
  }
}

}  // namespace

uint64_t tensor_bytes(const TensorSpec& spec) {
  uint64_t bytes = c10::elementSize(dtype_of(spec).dtype);
  for (const int64_t size : spec.shape) {
    TORCH_CHECK_VALUE(
        size >= 0 && !__builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes),
        "[safetensors] expected sizes of 0 or more and fewer than 2^64 bytes for ", spec.name,
        ", got a size of ", size);
  }
  return bytes;
}

SafetensorsLayout lay_out(const std::vector<TensorSpec>& specs,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<size_t> order(specs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) {
    return std::tuple(-dtype_of(specs[i]).rank, std::string_view(specs[i].name));
  });

  SafetensorsLayout layout;
  layout.offsets.resize(specs.size());
  std::vector<std::string> members;
  if (!metadata.empty()) members.push_back("\"__metadata__\":" + to_json(metadata));
  std::set<std::string_view> names{"__metadata__"};
  for (const size_t i : order) {
    const TensorSpec& spec = specs[i];
    TORCH_CHECK_VALUE(names.insert(spec.name).second,
                      "[safetensors] expected each name once and none reserved, got ", spec.name);
    const uint64_t begin = layout.data_bytes;
    layout.offsets[i] = begin;
    layout.data_bytes += tensor_bytes(spec);
    members.push_back(fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                                  to_json(spec.name), dtype_of(spec).name,
                                  fmt::join(spec.shape, ","), begin, layout.data_bytes));
  }

  std::string text = fmt::format("{{{}}}", fmt::join(members, ","));
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  layout.head.assign(reinterpret_cast<const char*>(&length), sizeof length);
  layout.head += text;
  for (uint64_t& offset : layout.offsets) offset += layout.head.size();
  return layout;
}

}  // namespace schmidt::io
