#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "schmidt/quant/format.h"

namespace schmidt::io {

/// A tensor as a file stores it, so that it can be held and multiplied in its own format.
struct EncodedTensor {
  const quant::Format* format = nullptr;
  std::vector<int64_t> shape;
  std::string_view bytes;              ///< the blocks of all values, row after row
  std::shared_ptr<const void> memory;  ///< what keeps `bytes` alive: mapped files, or a copy
};

}  // namespace schmidt::io
