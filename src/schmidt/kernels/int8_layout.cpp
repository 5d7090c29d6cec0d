#include "schmidt/kernels/int8_layout.h"

#include <algorithm>

namespace schmidt::kernels {
namespace {

int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// Blocks that follow each other without a gap.
void lay_out_blocks(const QuantizedWeight& w, Int8Layout& to) {
  to.columns = round_up(w.n, kInt8Pair);
  to.blocks = (w.n + kInt8Block - 1) / kInt8Block;
  for (int64_t b = 0; b < to.columns / kInt8Block; ++b) {
    to.group_of.push_back(
        static_cast<int32_t>(std::min(b * kInt8Block / w.format.group, w.groups() - 1)));
    to.code_of.push_back(static_cast<int32_t>(b * kInt8Block));
  }
}

/// Pairs of blocks for each group.
void lay_out_groups(const QuantizedWeight& w, Int8Layout& to) {
  const int64_t group = w.format.group;
  for (int64_t g = 0; g < w.groups(); ++g) {
    for (int64_t code = g * group / 8 * 8; code < (g + 1) * group; code += kInt8Pair) {
      // A second block behind the group multiplies zeros, and may be read where the first is.
      const int64_t second = code + kInt8Block < (g + 1) * group ? code + kInt8Block : code;
      for (const int64_t first : {code, second}) {
        to.group_of.push_back(static_cast<int32_t>(g));
        to.code_of.push_back(static_cast<int32_t>(first));
      }
    }
  }
  to.blocks = static_cast<int64_t>(to.code_of.size());
  to.columns = to.blocks * kInt8Block;
}

}  // namespace

void lay_out(const QuantizedWeight& w, Int8Layout& to) {
  to.groups = round_up(w.groups(), 16);
  to.group_of.clear();
  to.code_of.clear();
  suits_int8_blocks(w) ? lay_out_blocks(w, to) : lay_out_groups(w, to);
}

void spread(const QuantizedWeight& w, const Int8Layout& layout, const float* x, float* to) {
  std::fill_n(to, layout.columns, 0.0F);
  for (int64_t b = 0; b < layout.blocks; b += 2, to += kInt8Pair) {
    const int64_t first = layout.code_of[b], group = layout.group_of[b] * w.format.group;
    const int64_t begin = std::max(first, group);
    const int64_t end = std::min(first + kInt8Pair, group + w.format.group);
    std::copy(x + begin, x + end, to + (begin - first));
  }
}

}  // namespace schmidt::kernels
