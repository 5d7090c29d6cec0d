#include "schmidt/kernels/softmax.h"

#include <cmath>
#include <limits>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/zeros.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/loops.h"

namespace schmidt::kernels {
namespace {

template <typename T>
struct LogSumExp {
  SCHMIDT_INLINE_LOOP static void run(const T* x, float* to, int64_t rows, int64_t vocab) {
    for (int64_t row = 0; row < rows; ++row, x += vocab) {
      float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
      for (int64_t i = 0; i < vocab; ++i) largest = std::max(largest, widen(x[i]));
      float total = 0.0F;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < vocab; ++i) total += fast_exp(widen(x[i]) - largest);
      to[row] = largest + std::log(total);
    }
  }
};

template <typename T>
struct Scaled {
  SCHMIDT_INLINE_LOOP static void run(const T* x, const float* log_sum, const float* weights, T* to,
                                      int64_t rows, int64_t vocab) {
    for (int64_t row = 0; row < rows; ++row, x += vocab, to += vocab) {
      const float sum = log_sum[row], weight = weights[row];
#pragma omp simd
      for (int64_t i = 0; i < vocab; ++i) to[i] = narrow<T>(weight * fast_exp(widen(x[i]) - sum));
    }
  }
};

template <typename T>
struct Difference {
  SCHMIDT_INLINE_LOOP static void run(const T* x, const float* log_sum, const float* weights,
                                      const T* other, const float* other_log_sum, float q_weight,
                                      T* to, float* divergence, int64_t rows, int64_t vocab) {
    for (int64_t row = 0; row < rows; ++row, x += vocab, other += vocab, to += vocab) {
      const float sum = log_sum[row], other_sum = other_log_sum[row], weight = weights[row];
      float total = 0.0F;
#pragma omp simd reduction(+ : total)
      for (int64_t i = 0; i < vocab; ++i) {
        const float log_p = widen(x[i]) - sum, log_q = widen(other[i]) - other_sum;
        const float q = fast_exp(log_q);
        total += q * (log_q - log_p);
        to[i] = narrow<T>(weight * fast_exp(log_p) - q_weight * q);
      }
      divergence[row] = total;
    }
  }
};

bool is_distribution(const Distribution& d, at::IntArrayRef sizes) {
  return d.logits.sizes() == sizes && d.log_sum.dim() == 1 && d.log_sum.size(0) == sizes[0] &&
         d.log_sum.scalar_type() == torch::kFloat32;
}

void check_logits(const char* what, const torch::Tensor& logits) {
  TORCH_CHECK_VALUE(logits.dim() == 2 && logits.size(1) >= 1, "[", what,
                    "] expected logits [rows, vocab], got ", logits.sizes());
}

int64_t grain(int64_t vocab) { return std::max<int64_t>(1, kGrain / vocab); }

}  // namespace

torch::Tensor log_sum_exp(const torch::Tensor& logits) {
  check_logits("log_sum_exp", logits);
  const at::NoGradGuard no_grad;
  if (!fast_types({&logits})) return at::logsumexp(logits.to(torch::kFloat32), 1);
  const torch::Tensor x = logits.contiguous();
  const int64_t rows = x.size(0), vocab = x.size(1);
  torch::Tensor to = at::empty({rows}, x.options().dtype(torch::kFloat32));
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    const T* from = x.const_data_ptr<T>();
    float* sums = to.mutable_data_ptr<float>();
    at::parallel_for(0, rows, grain(vocab), [&](int64_t begin, int64_t end) {
      run_fastest<LogSumExp<T>>(from + begin * vocab, sums + begin, end - begin, vocab);
    });
  });
  return to;
}

SoftmaxGradient softmax_gradient_reference(const Distribution& p, const torch::Tensor& weights,
                                           const std::optional<Distribution>& q, double q_weight) {
  const at::NoGradGuard no_grad;
  const auto log_of = [](const Distribution& d) {
    return d.logits.to(torch::kFloat32) - d.log_sum.unsqueeze(1);
  };
  const torch::Tensor log_p = log_of(p);
  torch::Tensor gradient = log_p.exp() * weights.unsqueeze(1);
  if (!q)
    return {gradient.to(p.logits.scalar_type()), at::zeros(weights.sizes(), weights.options())};
  const torch::Tensor log_q = log_of(*q), likely = log_q.exp();
  return {(gradient - q_weight * likely).to(p.logits.scalar_type()),
          (likely * (log_q - log_p)).sum(1)};
}

SoftmaxGradient softmax_gradient(const Distribution& p, const torch::Tensor& weights,
                                 const std::optional<Distribution>& q, double q_weight) {
  check_logits("softmax_gradient", p.logits);
  TORCH_CHECK_VALUE(is_distribution(p, p.logits.sizes()) && weights.sizes() == p.log_sum.sizes() &&
                        weights.scalar_type() == torch::kFloat32,
                    "[softmax_gradient] expected float32 log_sum and weights [", p.logits.size(0),
                    "], got ", p.log_sum.sizes(), " and ", weights.sizes());
  TORCH_CHECK_VALUE(!q || (is_distribution(*q, p.logits.sizes()) &&
                           q->logits.scalar_type() == p.logits.scalar_type()),
                    "[softmax_gradient] expected q as p's logits ", p.logits.sizes(), ", got ",
                    q->logits.sizes());
  if (!fast_types({&p.logits})) return softmax_gradient_reference(p, weights, q, q_weight);
  const torch::Tensor x = p.logits.contiguous(), sum = p.log_sum.contiguous(),
                      weight = weights.contiguous();
  const int64_t rows = x.size(0), vocab = x.size(1);
  SoftmaxGradient result = {at::empty_like(x), at::zeros({rows}, sum.options())};
  const torch::Tensor other = q ? q->logits.contiguous() : x;
  const torch::Tensor other_sum = q ? q->log_sum.contiguous() : sum;
  with_fast_type(x.scalar_type(), [&]<typename T>(T*) {
    T* to = result.gradient.mutable_data_ptr<T>();
    float* divergence = result.divergence.mutable_data_ptr<float>();
    at::parallel_for(0, rows, grain(vocab), [&](int64_t begin, int64_t end) {
      const T* from = x.const_data_ptr<T>() + begin * vocab;
      const float* sums = sum.const_data_ptr<float>() + begin;
      const float* scale = weight.const_data_ptr<float>() + begin;
      if (!q) {
        run_fastest<Scaled<T>>(from, sums, scale, to + begin * vocab, end - begin, vocab);
        return;
      }
      run_fastest<Difference<T>>(from, sums, scale, other.const_data_ptr<T>() + begin * vocab,
                                 other_sum.const_data_ptr<float>() + begin,
                                 static_cast<float>(q_weight), to + begin * vocab,
                                 divergence + begin, end - begin, vocab);
    });
  });
  return result;
}

}  // namespace schmidt::kernels
