#include "schmidt/tn/merge_order.h"

#include <limits>

namespace schmidt::tn {

Chain chain_of(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  const size_t sites = shape.out_dims.size();
  Chain chain{{1.0}, {1.0}, {1.0}};
  for (size_t k = 0; k < sites; ++k) {
    chain.bond.push_back(k + 1 < sites ? static_cast<double>(bonds[k]) : 1.0);
    chain.out_product.push_back(chain.out_product[k] * static_cast<double>(shape.out_dims[k]));
    chain.in_product.push_back(chain.in_product[k] * static_cast<double>(shape.in_dims[k]));
  }
  return chain;
}

Chain chain_of(const std::vector<torch::Tensor>& cores) {
  Chain chain{{1.0}, {1.0}, {1.0}};
  for (size_t k = 0; k < cores.size(); ++k) {
    chain.bond.push_back(static_cast<double>(cores[k].size(3)));
    chain.out_product.push_back(chain.out_product[k] * static_cast<double>(cores[k].size(1)));
    chain.in_product.push_back(chain.in_product[k] * static_cast<double>(cores[k].size(2)));
  }
  return chain;
}

MergeOrder merge_order(const Chain& chain) {
  const int64_t sites = chain.sites();
  MergeOrder order{{sites, 0.0}, {sites, 0}};
  for (int64_t length = 2; length <= sites; ++length) {
    for (int64_t begin = 0, end = length; end <= sites; ++begin, ++end) {
      double& best = order.cost.at(begin, end) = std::numeric_limits<double>::infinity();
      for (int64_t split = begin + 1; split < end; ++split) {
        const double cost =
            order.cost.at(begin, split) + order.cost.at(split, end) +
            chain.bond[begin] * chain.bond[split] * chain.bond[end] * chain.legs(begin, end);
        if (cost < best) {
          best = cost;
          order.split.at(begin, end) = split;
        }
      }
    }
  }
  return order;
}

}  // namespace schmidt::tn
