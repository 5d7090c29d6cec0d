#include "schmidt/io/dtype_names.h"

#include <string>

#include <c10/util/Exception.h>

namespace schmidt::io {

std::string_view dtype_name(c10::ScalarType dtype) {
  for (const auto& [name, known] : kDtypeNames) {
    if (known == dtype) return name;
  }
  TORCH_CHECK_VALUE(false, "[dtype] expected float32, float16, bfloat16 or float64, got ", dtype);
}

void name_dtype(nlohmann::json& config, c10::ScalarType dtype) {
  const std::string name(dtype_name(dtype));
  bool named = false;
  for (const char* key : {"dtype", "torch_dtype"}) {
    if (!config.contains(key)) continue;
    config[key] = name;
    named = true;
  }
  if (!named) config["torch_dtype"] = name;
}

}  // namespace schmidt::io
