#include "schmidt/kernels/add.h"

#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

template <typename T>
struct Add {
  SCHMIDT_INLINE_LOOP static void run(T* to, const T* from, int64_t n, float factor) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) {
      to[i] = narrow<T>(widen(to[i]) + widen(narrow<T>(factor * widen(from[i]))));
    }
  }
};

}  // namespace

void add(float* to, const float* from, int64_t n, float factor) {
  run_fastest<Add<float>>(to, from, n, factor);
}
void add(c10::BFloat16* to, const c10::BFloat16* from, int64_t n, float factor) {
  run_fastest<Add<c10::BFloat16>>(to, from, n, factor);
}

}  // namespace schmidt::kernels
