#include "schmidt/quant/group_fit.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace schmidt::quant {
namespace {

constexpr float kNothing = 1e-15F;  // below it a group counts as zeros

/// The first value that is largest in magnitude.
float extreme_of(const float* values, int count) {
  float extreme = 0;
  for (int i = 0; i < count; ++i) {
    if (std::abs(values[i]) > std::abs(extreme)) extreme = values[i];
  }
  return extreme;
}

int centred_code(float scaled, int half) { return nearest_code(scaled, -half, half - 1); }

/// sum w v q and sum w q q with w = v v: their quotient is the best scale of these codes.
struct Moments {
  float vq = 0, qq = 0;

  void add(float value, int code) {
    const float weight = value * value;
    vq += weight * value * static_cast<float>(code);
    qq += weight * static_cast<float>(code) * static_cast<float>(code);
  }
  float scale() const { return qq > 0 ? vq / qq : 0; }
};

template <typename Codes>
Moments moments_of(const float* values, int count, float inverse, int half, const Codes& put) {
  Moments moments;
  for (int i = 0; i < count; ++i) {
    const int code = centred_code(inverse * values[i], half);
    put(i, code);
    moments.add(values[i], code);
  }
  return moments;
}

}  // namespace

int nearest_code(float value, int low, int high) {
  // 1.5 * 2^23: the sum has no bits left behind the point.
  const float within = std::clamp(value, static_cast<float>(low), static_cast<float>(high));
  const float shifted = within + 12582912.0F;
  int32_t bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return (bits & 0x007fffff) - 0x00400000;
}

float steps_of(int steps, float largest) {
  return largest == 0 ? 0 : static_cast<float>(steps) / largest;
}

MinimumFit fit_with_minimum(const float* values, const float* weights, int count,
                            const MinimumSearch& search) {
  float low = values[0], high = values[0];
  float sum_w = weights[0], sum_v = weights[0] * values[0];
  for (int i = 1; i < count; ++i) {
    low = std::min(low, values[i]);
    high = std::max(high, values[i]);
    sum_w += weights[i];
    sum_v += weights[i] * values[i];
  }
  low = std::min(low, 0.0F);
  MinimumFit best;
  best.minimum = -low;
  if (high == low) return best;

  uint8_t codes[kMaxGroup];
  const auto round = [&](float inverse) {
    for (int i = 0; i < count; ++i) {
      codes[i] = static_cast<uint8_t>(nearest_code(inverse * (values[i] - low), 0, search.most));
    }
  };
  const auto error_of = [&](float scale, float offset) {
    float error = 0;
    for (int i = 0; i < count; ++i) {
      const float d = scale * static_cast<float>(codes[i]) + offset - values[i];
      error += weights[i] * (search.by_magnitude ? std::abs(d) : d * d);
    }
    return error;
  };
  const auto most = static_cast<float>(search.most);
  round(most / (high - low));
  best.scale = 1 / (most / (high - low));
  std::copy_n(codes, count, best.codes);
  float least = error_of(best.scale, low);

  for (int k = 0; k <= search.steps; ++k) {
    round((search.first + 0.1F * static_cast<float>(k) + most) / (high - low));
    float sum_q = 0, sum_qq = 0, sum_vq = 0;
    for (int i = 0; i < count; ++i) {
      const auto q = static_cast<float>(codes[i]);
      sum_q += weights[i] * q;
      sum_qq += weights[i] * q * q;
      sum_vq += weights[i] * q * values[i];
    }
    const float determinant = sum_w * sum_qq - sum_q * sum_q;
    if (!(determinant > 0)) continue;
    float scale = (sum_w * sum_vq - sum_v * sum_q) / determinant;
    float offset = (sum_qq * sum_v - sum_q * sum_vq) / determinant;
    if (offset > 0) {
      offset = 0;
      scale = sum_vq / sum_qq;
    }
    const float error = error_of(scale, offset);
    if (error < least) {
      least = error;
      best.scale = scale;
      low = offset;  // where the next ones are tried from
      std::copy_n(codes, count, best.codes);
    }
  }
  best.minimum = -low;
  return best;
}

CentredFit fit_by_scales(const float* values, int count, int half) {
  CentredFit best;
  const float extreme = extreme_of(values, count);
  if (std::abs(extreme) < kNothing) return best;
  const auto put = [&](int i, int code) { best.codes[i] = static_cast<uint8_t>(code + half); };
  const auto size = static_cast<float>(half);
  const Moments first = moments_of(values, count, -size / extreme, half, put);
  best.scale = first.scale();
  float gain = best.scale * first.vq;
  for (int k = -9; k <= 9; ++k) {
    if (k == 0) continue;
    const float inverse = -(size + 0.1F * static_cast<float>(k)) / extreme;
    const Moments tried = moments_of(values, count, inverse, half, [](int, int) {});
    if (!(tried.qq > 0) || !(tried.vq * tried.vq > gain * tried.qq)) continue;
    moments_of(values, count, inverse, half, put);
    best.scale = tried.scale();
    gain = best.scale * tried.vq;
  }
  return best;
}

CentredFit fit_by_codes(const float* values, int count, int half) {
  CentredFit best;
  const float extreme = extreme_of(values, count);
  if (std::abs(extreme) < kNothing) return best;
  int codes[kMaxGroup];
  Moments all = moments_of(values, count, -static_cast<float>(half) / extreme, half,
                           [&](int i, int code) { codes[i] = code; });
  bool changes = true;
  for (int round = 0; round < 5 && changes; ++round) {
    changes = false;
    for (int i = 0; i < count; ++i) {
      const float value = values[i], weight = value * value;
      const auto code = static_cast<float>(codes[i]);
      Moments others{all.vq - weight * value * code, all.qq - weight * code * code};
      if (!(others.vq > 0)) continue;
      const int better = centred_code(value * others.qq / others.vq, half);
      if (better == codes[i]) continue;
      others.add(value, better);
      if (others.qq > 0 && others.vq * others.vq * all.qq > all.vq * all.vq * others.qq) {
        codes[i] = better;
        all = others;
        changes = true;
      }
    }
  }
  for (int i = 0; i < count; ++i) best.codes[i] = static_cast<uint8_t>(codes[i] + half);
  best.scale = all.scale();
  return best;
}

}  // namespace schmidt::quant
