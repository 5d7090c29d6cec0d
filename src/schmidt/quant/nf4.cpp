#include "schmidt/quant/nf4.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace schmidt::quant {
namespace {

constexpr float kLeast = 1e-38F;  // a block of zeros is divided by it
constexpr int kSteps = 65536;     // from -1 to 1, of the table that rounds to the dynamic map

float largest_magnitude(const float* values, int64_t count) {
  float largest = 0.0F;
  for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

std::array<float, 15> middles_of_levels() {
  std::array<float, 15> middles;
  for (size_t k = 0; k < middles.size(); ++k) {
    middles[k] = (kNf4Levels[k] + kNf4Levels[k + 1]) / 2;
  }
  return middles;
}

uint8_t nearest_level(float value) {
  static const std::array<float, 15> kMiddles = middles_of_levels();
  int code = 0;
  for (const float middle : kMiddles) code += middle < value ? 1 : 0;
  return static_cast<uint8_t>(code);
}

std::array<float, 256> make_dynamic_map() {
  std::array<float, 256> map;
  size_t filled = 0;
  for (int power = 0; power < 7; ++power) {
    const int parts = 1 << power;
    const float step = (1.0F - 0.1F) / static_cast<float>(parts);
    const auto scale = static_cast<float>(std::pow(10.0, power - 6));
    // Counted from the nearer end of [0.1, 1] and rounded once, as torch.linspace does.
    const auto bound = [&](int i) {
      return i < (parts + 1) / 2 ? std::fma(step, static_cast<float>(i), 0.1F)
                                 : std::fma(-step, static_cast<float>(parts - i), 1.0F);
    };
    for (int i = 0; i < parts; ++i) {
      const float middle = scale * ((bound(i) + bound(i + 1)) / 2);
      map[filled++] = middle;
      map[filled++] = -middle;
    }
  }
  map[filled++] = 0.0F;
  map[filled++] = 1.0F;
  std::ranges::sort(map);
  return map;
}

/// The level of the dynamic map that is nearest to each of the even steps.
const std::vector<uint8_t>& dynamic_codes() {
  static const std::vector<uint8_t> kCodes = [] {
    const std::array<float, 256>& map = dynamic_map();
    std::vector<uint8_t> codes(kSteps);
    size_t code = 0;
    for (int t = 0; t < kSteps; ++t) {
      const double value = 2.0 * t / (kSteps - 1) - 1.0;
      while (code < 255 && std::abs(map[code + 1] - value) < std::abs(map[code] - value)) ++code;
      codes[static_cast<size_t>(t)] = static_cast<uint8_t>(code);
    }
    return codes;
  }();
  return kCodes;
}

/// Calls visit(first, last, scale) for each block's part of begin .. end.
template <class Visit>
void visit_blocks(const Nf4Scales& scales, int64_t block, int64_t begin, int64_t end,
                  const Visit& visit) {
  for (int64_t i = begin; i < end;) {
    const int64_t b = i / block;
    const int64_t last = std::min((b + 1) * block, end);
    visit(i, last, scales.at(b));
    i = last;
  }
}

float level(const uint8_t* codes, int64_t i) {
  const uint8_t both = codes[i / 2];
  return kNf4Levels[i % 2 == 0 ? both >> 4 : both & 15];
}

}  // namespace

const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> kMap = make_dynamic_map();
  return kMap;
}

void encode_nf4(const float* values, int64_t count, int64_t block, uint8_t* codes, float* absmax) {
  const uint8_t zero = nearest_level(0.0F);
  std::fill_n(codes, nf4_bytes(count), zero);  // what an odd number leaves in the low half
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(begin + block, count);
    const float largest = largest_magnitude(values + begin, end - begin);
    absmax[begin / block] = largest;
    const float divisor = std::max(largest, kLeast);
    const float inverse = 1.0F / divisor;
    for (int64_t i = begin; i < end; ++i) {
      // The package multiplies in whole blocks and divides in one that is cut off.
      const float scaled = end - begin == block ? values[i] * inverse : values[i] / divisor;
      const uint8_t code = nearest_level(std::clamp(scaled, -1.0F, 1.0F));
      uint8_t& both = codes[i / 2];
      both = i % 2 == 0 ? static_cast<uint8_t>(code << 4 | zero)
                        : static_cast<uint8_t>((both & 0xF0) | code);
    }
  }
}

void encode_dynamic(const float* values, int64_t count, int64_t block, uint8_t* codes,
                    float* absmax) {
  const std::vector<uint8_t>& nearest = dynamic_codes();
  for (int64_t begin = 0; begin < count; begin += block) {
    const int64_t end = std::min(begin + block, count);
    const float largest = largest_magnitude(values + begin, end - begin);
    absmax[begin / block] = largest;
    if (largest == 0.0F) {
      std::fill(codes + begin, codes + end, uint8_t{0});
      continue;
    }
    const float inverse = 1.0F / largest;  // infinite for subnormal numbers
    for (int64_t i = begin; i < end; ++i) {
      const float ratio = std::isfinite(inverse) ? values[i] * inverse : values[i] / largest;
      const float scaled = std::clamp(ratio, -1.0F, 1.0F);
      const float step = (scaled + 1.0F) * 0.5F * static_cast<float>(kSteps - 1) + 0.5F;
      codes[i] = nearest[static_cast<size_t>(step)];
    }
  }
}

void decode_nf4(const uint8_t* codes, const Nf4Scales& scales, int64_t block, int64_t begin,
                int64_t end, float* values) {
  visit_blocks(scales, block, begin, end, [&](int64_t first, int64_t last, float scale) {
    for (int64_t i = first; i < last; ++i) values[i - begin] = level(codes, i) * scale;
  });
}

double dot_nf4(const uint8_t* codes, const Nf4Scales& scales, int64_t block, int64_t begin,
               int64_t end, const float* x) {
  double sum = 0.0;
  visit_blocks(scales, block, begin, end, [&](int64_t first, int64_t last, float scale) {
    double part = 0.0;
    for (int64_t i = first; i < last; ++i) {
      part += static_cast<double>(level(codes, i)) * static_cast<double>(x[i - begin]);
    }
    sum += part * static_cast<double>(scale);
  });
  return sum;
}

}  // namespace schmidt::quant
