#include "schmidt/tn/mpo_sum.h"

#include "schmidt/tn/gauge.h"
#include "schmidt/tn/site_shape.h"

namespace schmidt::tn {

torch::Tensor to_dense(const std::vector<Mpo>& terms) {
  torch::Tensor sum = terms.front().to_dense();
  for (size_t i = 1; i < terms.size(); ++i) sum = sum + terms[i].to_dense();
  return sum;
}

int64_t parameter_count(const std::vector<Mpo>& terms, bool fixed_gauge) {
  int64_t count = 0;
  for (const Mpo& term : terms) {
    const SiteShape shape{term.out_dims(), term.in_dims()};
    count += fixed_gauge ? gauge_fixed_parameter_count(shape, term.bonds())
                         : parameter_count(shape, term.bonds());
  }
  return count;
}

}  // namespace schmidt::tn
