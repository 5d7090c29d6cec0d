#include "schmidt/tn/site_shape.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include <c10/util/ArrayRef.h>
#include <c10/util/Exception.h>

namespace schmidt::tn {
namespace {

/// a * b for factors >= 0, or the largest int64_t where that does not fit.
int64_t saturating_product(int64_t a, int64_t b) {
  int64_t product = 0;
  const bool overflow = __builtin_mul_overflow(a, b, &product);
  return overflow ? std::numeric_limits<int64_t>::max() : product;
}

/// Divisors of `value`, ascending.
std::vector<int64_t> divisors(int64_t value) {
  std::vector<int64_t> low, high;
  for (int64_t d = 1; d <= value / d; ++d) {
    if (value % d != 0) continue;
    low.push_back(d);
    if (d != value / d) high.push_back(value / d);
  }
  low.insert(low.end(), high.rbegin(), high.rend());
  return low;
}

int64_t prime_factors(int64_t value) {
  int64_t count = 0;
  for (int64_t p = 2; p <= value / p; ++p) {
    for (; value % p == 0; value /= p) ++count;
  }
  return count + (value > 1 ? 1 : 0);
}

/// Searches all ways to split m and n over the sites, site by site; a branch is
/// left as soon as equal sites for what remains could not beat the best found.
class BalancedSearch {
 public:
  BalancedSearch(int64_t m, int64_t n, int64_t sites)
      : out_divisors_(divisors(m)), in_divisors_(divisors(n)) {
    current_.shape.out_dims.reserve(sites);
    current_.shape.in_dims.reserve(sites);
    place(m, n, sites);
  }

  const SiteShape& best() const { return best_.shape; }

 private:
  struct Candidate {
    SiteShape shape;
    int64_t size_sum = 0;       // of m_k * n_k
    int64_t dimension_sum = 0;  // of m_k + n_k
    bool better_than(const Candidate& o) const {
      return std::tie(size_sum, dimension_sum, shape.out_dims, shape.in_dims) <
             std::tie(o.size_sum, o.dimension_sum, o.shape.out_dims, o.shape.in_dims);
    }
  };

  void place(int64_t m, int64_t n, int64_t sites) {
    if (sites == 1) {
      if (fits(m, n)) finish(m, n);
      return;
    }
    const double size =
        std::pow(static_cast<double>(m) * static_cast<double>(n), 1.0 / static_cast<double>(sites));
    // By the inequality of the means no split of the rest has a smaller sum.
    if (found_ && static_cast<double>(current_.size_sum) + size * static_cast<double>(sites) >
                      static_cast<double>(best_.size_sum) * (1 + 1e-12)) {
      return;
    }
    struct Site {
      int64_t m, n;
      double distance;
    };
    std::vector<Site> candidates;
    for (const int64_t mk : out_divisors_) {
      if (m % mk != 0) continue;
      for (const int64_t nk : in_divisors_) {
        if (n % nk != 0 || !fits(mk, nk)) continue;
        const double ratio = static_cast<double>(mk) * static_cast<double>(nk) / size;
        candidates.push_back({mk, nk, std::abs(std::log(ratio))});
      }
    }
    std::sort(candidates.begin(), candidates.end(), [](const Site& a, const Site& b) {
      return std::tie(a.distance, a.m, a.n) < std::tie(b.distance, b.m, b.n);
    });
    for (const Site& site : candidates) {
      push(site.m, site.n);
      place(m / site.m, n / site.n, sites - 1);
      pop();
    }
  }

  /// Whether a site (m, n) may follow those placed so far.
  bool fits(int64_t m, int64_t n) const {
    const SiteShape& s = current_.shape;
    return (m > 1 || n > 1) &&
           (s.out_dims.empty() || (m <= s.out_dims.back() && n >= s.in_dims.back()));
  }

  void push(int64_t m, int64_t n) {
    current_.shape.out_dims.push_back(m);
    current_.shape.in_dims.push_back(n);
    current_.size_sum += m * n;
    current_.dimension_sum += m + n;
  }

  void pop() {
    const int64_t m = current_.shape.out_dims.back(), n = current_.shape.in_dims.back();
    current_.shape.out_dims.pop_back();
    current_.shape.in_dims.pop_back();
    current_.size_sum -= m * n;
    current_.dimension_sum -= m + n;
  }

  void finish(int64_t m, int64_t n) {
    push(m, n);
    if (!found_ || current_.better_than(best_)) best_ = current_;
    found_ = true;
    pop();
  }

  std::vector<int64_t> out_divisors_, in_divisors_;
  Candidate current_, best_;
  bool found_ = false;
};

void check_bonds(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  TORCH_CHECK_VALUE(static_cast<int64_t>(bonds.size()) == shape.sites() - 1,
                    "[parameter_count] expected ", shape.sites() - 1, " bonds for ", shape.sites(),
                    " sites, got ", bonds.size());
  for (const int64_t bond : bonds) {
    TORCH_CHECK_VALUE(bond >= 1, "[parameter_count] expected bonds of at least 1, got ", bond);
  }
}

/// parameter_count, saturating.
int64_t saturating_count(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  int64_t total = 0;
  for (size_t k = 0; k < shape.out_dims.size(); ++k) {
    const int64_t left = k == 0 ? 1 : bonds[k - 1];
    const int64_t right = k == bonds.size() ? 1 : bonds[k];
    const int64_t core = saturating_product(
        saturating_product(left, right), saturating_product(shape.out_dims[k], shape.in_dims[k]));
    if (__builtin_add_overflow(total, core, &total)) return std::numeric_limits<int64_t>::max();
  }
  return total;
}

std::vector<int64_t> limited(std::vector<int64_t> full, int64_t chi) {
  for (int64_t& bond : full) bond = std::min(bond, chi);
  return full;
}

}  // namespace

void check_shape(const SiteShape& shape) {
  TORCH_CHECK_VALUE(!shape.out_dims.empty() && shape.out_dims.size() == shape.in_dims.size(),
                    "[site shape] expected as many input as output dimensions, got ",
                    shape.in_dims.size(), " and ", shape.out_dims.size());
  int64_t size = 1;
  for (const auto* dims : {&shape.out_dims, &shape.in_dims}) {
    for (const int64_t d : *dims) {
      TORCH_CHECK_VALUE(d >= 1, "[site shape] expected dimensions of at least 1, got ",
                        at::IntArrayRef(*dims));
      size = saturating_product(size, d);
    }
  }
  TORCH_CHECK_VALUE(size < std::numeric_limits<int64_t>::max(),
                    "[site shape] expected a matrix of fewer than 2^63 entries, got sites ",
                    at::IntArrayRef(shape.out_dims), " x ", at::IntArrayRef(shape.in_dims));
}

SiteShape balanced_shape(int64_t m, int64_t n, int64_t sites) {
  TORCH_CHECK_VALUE(sites >= 1, "[balanced_shape] expected at least 1 site, got ", sites);
  check_shape({{m}, {n}});
  if (sites == 1) return {{m}, {n}};
  const int64_t factors = prime_factors(m) + prime_factors(n);
  TORCH_CHECK_VALUE(factors >= sites, "[balanced_shape] expected at most ", factors,
                    " sites, one for each prime factor of ", m, " x ", n, ", got ", sites);
  return BalancedSearch(m, n, sites).best();
}

SiteShape low_rank_shape(int64_t m, int64_t n) {
  check_shape({{m}, {n}});
  return {{m, 1}, {1, n}};
}

std::vector<int64_t> full_bonds(const SiteShape& shape) {
  check_shape(shape);
  int64_t right = 1, left = 1;
  for (int64_t k = 0; k < shape.sites(); ++k) right *= shape.out_dims[k] * shape.in_dims[k];
  std::vector<int64_t> bonds;
  for (int64_t k = 0; k + 1 < shape.sites(); ++k) {
    const int64_t size = shape.out_dims[k] * shape.in_dims[k];
    left *= size;
    right /= size;
    bonds.push_back(std::min(left, right));
  }
  return bonds;
}

int64_t parameter_count(const SiteShape& shape, const std::vector<int64_t>& bonds) {
  check_shape(shape);
  check_bonds(shape, bonds);
  const int64_t count = saturating_count(shape, bonds);
  TORCH_CHECK_VALUE(count < std::numeric_limits<int64_t>::max(),
                    "[parameter_count] expected fewer than 2^63 parameters, got bonds ",
                    at::IntArrayRef(bonds));
  return count;
}

std::vector<int64_t> bonds_for_budget(const SiteShape& shape, int64_t budget) {
  const std::vector<int64_t> full = full_bonds(shape);
  int64_t low = 1;  // the largest chi known to fit, or 1
  int64_t high = full.empty() ? 1 : *std::max_element(full.begin(), full.end());
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (saturating_count(shape, limited(full, middle)) <= budget) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return limited(full, low);
}

}  // namespace schmidt::tn
