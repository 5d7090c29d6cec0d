#include "schmidt/tn/site_shape.h"

#include <numeric>

#include <c10/util/Exception.h>
#include <gtest/gtest.h>

namespace schmidt::tn {
namespace {

using Dims = std::vector<int64_t>;

int64_t product(const Dims& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

int64_t size_sum(const SiteShape& s) {
  return std::inner_product(s.out_dims.begin(), s.out_dims.end(), s.in_dims.begin(), int64_t{0});
}

/// All ordered ways to write `value` as a product of `sites` factors.
std::vector<Dims> all_splits(int64_t value, int64_t sites) {
  if (sites == 1) return {{value}};
  std::vector<Dims> splits;
  for (int64_t d = 1; d <= value; ++d) {
    if (value % d != 0) continue;
    for (Dims rest : all_splits(value / d, sites - 1)) {
      rest.insert(rest.begin(), d);
      splits.push_back(rest);
    }
  }
  return splits;
}

TEST(BalancedShape, OfRealWeights) {
  EXPECT_EQ(balanced_shape(216, 216, 3), (SiteShape{{6, 6, 6}, {6, 6, 6}}));
  EXPECT_EQ(balanced_shape(576, 576, 2), (SiteShape{{24, 24}, {24, 24}}));
  EXPECT_EQ(balanced_shape(1536, 576, 2), (SiteShape{{48, 32}, {18, 32}}));
  EXPECT_EQ(balanced_shape(4096, 4096, 3), (SiteShape{{16, 16, 16}, {16, 16, 16}}));
  EXPECT_EQ(balanced_shape(4096, 11008, 2), (SiteShape{{64, 64}, {86, 128}}));
  EXPECT_EQ(balanced_shape(7, 11, 2), low_rank_shape(7, 11));
  EXPECT_EQ(balanced_shape(5, 3, 1), (SiteShape{{5}, {3}}));
}

TEST(BalancedShape, MultipliesOutAndIsOrdered) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{576, 1536},
                             {192, 576},
                             {11008, 4096},
                             {14336, 4096},
                             {128256, 4096},
                             {49152, 576},
                             {30030, 720}}) {
    for (int64_t sites = 2; sites <= 5; ++sites) {
      const SiteShape s = balanced_shape(m, n, sites);
      EXPECT_EQ(s.sites(), sites);
      EXPECT_EQ(product(s.out_dims), m);
      EXPECT_EQ(product(s.in_dims), n);
      EXPECT_TRUE(std::is_sorted(s.out_dims.rbegin(), s.out_dims.rend()));
      EXPECT_TRUE(std::is_sorted(s.in_dims.begin(), s.in_dims.end()));
    }
  }
}

TEST(BalancedShape, NoOtherSplitIsMoreEqual) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{24, 36}, {30, 7}, {64, 2}, {60, 48}}) {
    for (int64_t sites = 2; sites <= 3; ++sites) {
      int64_t least = std::numeric_limits<int64_t>::max();
      for (const Dims& out : all_splits(m, sites)) {
        for (const Dims& in : all_splits(n, sites)) {
          const SiteShape s{out, in};
          bool all_carry = true;
          for (int64_t k = 0; k < sites; ++k) all_carry &= out[k] * in[k] > 1;
          if (all_carry) least = std::min(least, size_sum(s));
        }
      }
      EXPECT_EQ(size_sum(balanced_shape(m, n, sites)), least) << m << " x " << n << ", " << sites;
    }
  }
}

TEST(BalancedShape, RefusesMoreSitesThanPrimeFactors) {
  EXPECT_EQ(balanced_shape(6, 5, 3).sites(), 3);
  EXPECT_THROW(balanced_shape(6, 5, 4), c10::ValueError);
  EXPECT_THROW(balanced_shape(6, 5, 0), c10::ValueError);
  EXPECT_THROW(balanced_shape(0, 5, 1), c10::ValueError);
  EXPECT_THROW(balanced_shape(-6, 5, 2), c10::ValueError);
  EXPECT_THROW(balanced_shape(int64_t{1} << 40, int64_t{1} << 40, 2), c10::ValueError);
}

TEST(ParameterCount, OfThePapersExample) {
  const SiteShape shape = balanced_shape(216, 216, 3);
  for (int64_t chi : {1, 10, 36}) {
    EXPECT_EQ(parameter_count(shape, {chi, chi}), 36 * chi + 36 * chi * chi + 36 * chi);
  }
}

TEST(ParameterCount, RefusesHostileBonds) {
  const SiteShape shape{{2, 3, 2}, {3, 2, 5}};
  EXPECT_THROW(parameter_count(shape, {1}), c10::ValueError);
  EXPECT_THROW(parameter_count(shape, {0, 1}), c10::ValueError);
  EXPECT_THROW(parameter_count(shape, {int64_t{1} << 62, int64_t{1} << 62}), c10::ValueError);
  EXPECT_THROW(parameter_count({{2, 3}, {4}}, {1}), c10::ValueError);
  EXPECT_THROW(parameter_count(SiteShape{}, {}), c10::ValueError);
  EXPECT_THROW(parameter_count({{2, -3}, {4, 5}}, {1}), c10::ValueError);
}

TEST(FullBonds, AreTheSmallerSideOfEachCut) {
  EXPECT_EQ(full_bonds({{2, 3, 2}, {3, 2, 5}}), (Dims{6, 10}));
  EXPECT_EQ(full_bonds({{7}, {4}}), Dims{});
  EXPECT_EQ(full_bonds(low_rank_shape(9, 4)), Dims{4});
}

TEST(BondsForBudget, IsTheLargestThatFits) {
  const SiteShape shape{{4, 4, 6}, {6, 4, 4}};
  const Dims full = full_bonds(shape);
  const int64_t largest = parameter_count(shape, full);
  for (int64_t budget : {int64_t{100}, int64_t{1000}, int64_t{5000}, largest - 1, largest}) {
    const Dims bonds = bonds_for_budget(shape, budget);
    EXPECT_LE(parameter_count(shape, bonds), budget);
    Dims next = bonds;
    const int64_t chi = *std::max_element(bonds.begin(), bonds.end()) + 1;
    for (size_t k = 0; k < next.size(); ++k) next[k] = std::min(full[k], chi);
    if (next != bonds) {
      EXPECT_GT(parameter_count(shape, next), budget);
    }
  }
  EXPECT_EQ(bonds_for_budget(shape, largest), full);
  EXPECT_EQ(bonds_for_budget(shape, 0), (Dims{1, 1}));
  EXPECT_EQ(bonds_for_budget({{4}, {4}}, 3), Dims{});
}

}  // namespace
}  // namespace schmidt::tn
