#pragma once

#include <cstdint>

#include <c10/util/BFloat16.h>

namespace schmidt::kernels {

/// to [n] += factor from [n], product and sum each rounded; on this thread.
void add(float* to, const float* from, int64_t n, float factor = 1.0F);
void add(c10::BFloat16* to, const c10::BFloat16* from, int64_t n, float factor = 1.0F);

}  // namespace schmidt::kernels
