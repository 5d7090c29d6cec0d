#pragma once

#include <ATen/ops/einsum.h>
#include <ATen/ops/randn.h>

#include "schmidt/tn/mpo.h"

namespace schmidt::tn {

/// Cores of independent normal entries, scaled so that W's entries are of order 1.
inline Mpo random_mpo(const SiteShape& shape, const std::vector<int64_t>& bonds,
                      at::ScalarType dtype = at::kDouble) {
  std::vector<torch::Tensor> cores;
  for (int64_t k = 0; k < shape.sites(); ++k) {
    const int64_t left = k == 0 ? 1 : bonds[k - 1];
    const int64_t right = k + 1 == shape.sites() ? 1 : bonds[k];
    const torch::Tensor core =
        at::randn({left, shape.out_dims[k], shape.in_dims[k], right}, at::kDouble);
    cores.push_back((core / std::sqrt(static_cast<double>(left))).to(dtype));
  }
  return Mpo(std::move(cores));
}

/// W by its definition, for 1 to 4 sites.
inline torch::Tensor dense_by_definition(const Mpo& mpo) {
  static const char* const kEquations[] = {"amnb->mn", "amnb,bopc->monp", "amnb,bopc,cqrd->moqnpr",
                                           "amnb,bopc,cqrd,dste->moqsnprt"};
  return at::einsum(kEquations[mpo.cores().size() - 1], mpo.cores())
      .reshape({mpo.rows(), mpo.cols()});
}

inline double relative_difference(const torch::Tensor& a, const torch::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).norm() / b.to(at::kDouble).norm()).item<double>();
}

}  // namespace schmidt::tn
