#include "schmidt/kernels/cache_block.h"

#include <limits>

#include <gtest/gtest.h>

#include "tests/kernels/cache_rows.h"

namespace schmidt::kernels {
namespace {

TEST(CacheBlock, HoldsWhatIsStoredAcrossBlocks) {
  const CacheShape shape{2, 3, 5, 7, torch::kFloat32};
  const CacheRow row = test::empty_row(shape, 4);
  const torch::Tensor keys = torch::randn({13, 3, 7}), values = torch::randn({13, 3, 7});
  store_in_cache(keys, values, row, 1, 3);
  const KeysAndValues held = gather_from_cache(row, 1, 3, 13, torch::kFloat32);
  EXPECT_TRUE(torch::equal(held.keys, keys));
  EXPECT_TRUE(torch::equal(held.values, values));
  EXPECT_TRUE(
      torch::equal(gather_from_cache(row, 1, 9, 4, torch::kFloat32).keys, keys.narrow(0, 6, 4)));
  EXPECT_EQ(shape.bytes(), 2 * 2 * 3 * 5 * 7 * 4);
}

// The values of a step are a part of the outputs of q, k and v, not packed by themselves.
TEST(CacheBlock, StoresPartsOfWiderRows) {
  const CacheShape shape{1, 2, 4, 6, torch::kFloat32};
  const CacheRow row = test::empty_row(shape, 2);
  const torch::Tensor wide = torch::randn({7, 40});
  const torch::Tensor part = wide.narrow(1, 5, 12).unflatten(1, {2, 6});
  store_in_cache(part, part.flip(2), row, 0, 0);
  const KeysAndValues held = gather_from_cache(row, 0, 0, 7, torch::kFloat32);
  EXPECT_TRUE(torch::equal(held.keys, part));
  EXPECT_TRUE(torch::equal(held.values, part.flip(2)));
}

TEST(CacheBlock, Bfloat16IsRoundedToTheNearest) {
  const CacheShape shape{1, 1, 4, 33, torch::kBFloat16};
  const CacheRow row = test::empty_row(shape, 2);
  const torch::Tensor x = torch::randn({6, 1, 33});
  store_in_cache(x, -x, row, 0, 1);
  const KeysAndValues held = gather_from_cache(row, 0, 1, 6, torch::kFloat32);
  EXPECT_TRUE(torch::equal(held.keys, x.to(torch::kBFloat16).to(torch::kFloat32)));
  EXPECT_TRUE(torch::equal(held.values, -held.keys));
}

TEST(CacheBlock, CodesAreWithinHalfAStepAndAsTheReferenceHasThem) {
  for (const int64_t d : {1, 3, 16, 50, 64, 128}) {
    const CacheShape shape{1, 3, 8, d, torch::kChar};
    const CacheRow row = test::empty_row(shape, 3), other = test::empty_row(shape, 3);
    for (const torch::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
      const torch::Tensor sizes = torch::rand({19, 3, 1}) * 100;
      const torch::Tensor x = (torch::randn({19, 3, d}) * sizes).to(dtype);
      store_in_cache(x, 2 * x, row, 0, 2);
      store_in_cache_reference(x, 2 * x, other, 0, 2);
      const KeysAndValues held = gather_from_cache(row, 0, 2, 19, torch::kFloat32);
      const torch::Tensor wide = x.to(torch::kFloat32);
      const torch::Tensor bound = wide.abs().amax(-1, true) / 254 * 1.0001;
      EXPECT_TRUE(((held.keys - wide).abs() <= bound).all().item<bool>()) << d;
      EXPECT_TRUE(((held.values - 2 * wide).abs() <= 2 * bound).all().item<bool>()) << d;
      const KeysAndValues truth = gather_from_cache(other, 0, 2, 19, torch::kFloat32);
      // Numbers halfway between two codes may go either way.
      EXPECT_LE(torch::count_nonzero(truth.keys - held.keys).item<int64_t>(), x.numel() / 500) << d;
    }
  }
}

TEST(CacheBlock, CodesOfZerosAndOfWhatIsNotFinite) {
  const CacheShape shape{1, 1, 8, 20, torch::kChar};
  torch::Tensor x = torch::randn({5, 1, 20});
  x[0].fill_(0.0F);
  x[1].fill_(1e-40F);
  x[2][0][7] = std::numeric_limits<float>::infinity();
  x[3][0][19] = std::numeric_limits<float>::quiet_NaN();
  for (const auto store : {store_in_cache, store_in_cache_reference}) {
    const CacheRow row = test::empty_row(shape, 1);
    store(x, x, row, 0, 0);
    const torch::Tensor held = gather_from_cache(row, 0, 0, 5, torch::kFloat32).keys;
    EXPECT_EQ(held.narrow(0, 0, 2).abs().max().item<float>(), 0.0F);
    EXPECT_TRUE(held.narrow(0, 2, 2).isnan().all().item<bool>());
    EXPECT_TRUE(held[4].isfinite().all().item<bool>());
  }
}

TEST(CacheBlock, ACopyIsOfItsOwn) {
  for (const torch::ScalarType dtype : {torch::kFloat32, torch::kChar}) {
    const CacheRow row = test::empty_row({2, 2, 8, 4, dtype}, 1);
    const torch::Tensor x = torch::randn({5, 2, 4});
    for (const int64_t layer : {0, 1}) store_in_cache(x, 2 * x, row, layer, 0);
    const CacheRow copy = {copy_of(*row[0])};
    store_in_cache(-x, -x, row, 1, 0);
    const KeysAndValues held = gather_from_cache(copy, 1, 0, 5, torch::kFloat32);
    EXPECT_TRUE(torch::allclose(held.keys, x, 0.0, 0.02));
    EXPECT_TRUE(torch::allclose(held.values, 2 * x, 0.0, 0.04));
  }
}

TEST(CacheBlock, RefusesWhatDoesNotFit) {
  const CacheShape shape{1, 2, 4, 6, torch::kFloat32};
  const CacheRow row = test::empty_row(shape, 2);
  const torch::Tensor x = torch::randn({3, 2, 6});
  EXPECT_THROW(store_in_cache(x, x, row, 0, 6), c10::ValueError);
  EXPECT_THROW(store_in_cache(x, x, row, 1, 0), c10::ValueError);
  EXPECT_THROW(store_in_cache(x, x, row, 0, -1), c10::ValueError);
  EXPECT_THROW(store_in_cache(x, x.narrow(0, 0, 2), row, 0, 0), c10::ValueError);
  const torch::Tensor other = torch::randn({3, 1, 6});
  EXPECT_THROW(store_in_cache(other, other, row, 0, 0), c10::ValueError);
  EXPECT_THROW(gather_from_cache(row, 0, 7, 2, torch::kFloat32), c10::ValueError);
  EXPECT_THROW(make_cache_block({1, 1, 1, 1, torch::kHalf}, torch::kCPU), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::kernels
