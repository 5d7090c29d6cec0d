#include "schmidt/model/kv_cache.h"

#include <gtest/gtest.h>

#include "schmidt/model/model.h"

#include "tests/support/tiny_model.h"

namespace schmidt::model {
namespace {

class Cache : public testing::Test {
 protected:
  KvCache make(int64_t batch, const CacheOptions& options = {.block_tokens = 4},
               int64_t capacity = 128) const {
    return {model_.config(), batch, capacity, torch::kFloat32, torch::kCPU, options};
  }

  static torch::Tensor some_ids(int64_t b, int64_t t) {
    return torch::randint(264, {b, t}, torch::kInt64);
  }

  /// One row's logits after its next tokens, while the others rest.
  torch::Tensor step(KvCache& cache, int64_t row, const torch::Tensor& ids) const {
    torch::Tensor all = torch::zeros({cache.batch(), ids.size(0)}, torch::kInt64);
    all[row].copy_(ids);
    std::vector<int64_t> lengths(static_cast<size_t>(cache.batch()), 0);
    lengths[row] = ids.size(0);
    return model_.step(all, lengths, cache)[row];
  }

  static void expect_near(const torch::Tensor& a, const torch::Tensor& b) {
    EXPECT_LT((a - b).abs().max().item<float>(), 1e-4 * (1 + b.abs().max().item<float>()));
  }

  test::TinyModel tiny_ = test::make_tiny_model(2, 3);
  Model model_ = Model::load(tiny_.config, Weights(tiny_.tensors, "tiny"));
};

TEST_F(Cache, MemoryFollowsTheTokensHeld) {
  KvCache cache = make(3);
  const int64_t block = 4 * cache.bytes_per_token();
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.blocks(), 3 * 32);
  model_.step(some_ids(3, 9), {9, 4, 1}, cache);
  EXPECT_EQ(cache.bytes(), (3 + 1 + 1) * block);
  model_.step(some_ids(3, 4), {0, 1, 3}, cache);
  EXPECT_EQ(cache.bytes(), (3 + 2 + 1) * block);
  cache.truncate(0, 8);
  EXPECT_EQ(cache.bytes(), (2 + 2 + 1) * block);
  cache.truncate(1, 0);
  EXPECT_EQ(cache.bytes(), (2 + 0 + 1) * block);
  EXPECT_EQ(cache.free_blocks(), 96 - 3);
  cache.reset();
  EXPECT_EQ(cache.bytes(), 0);
  EXPECT_EQ(cache.lengths(), (std::vector<int64_t>{0, 0, 0}));
}

TEST_F(Cache, TypesTakeTheirBytes) {
  const int64_t vectors = 2 * 2 * 2;  // keys and values, layers, heads, each of 6 numbers
  const auto bytes = [&](CacheType type) { return make(1, {.type = type}).bytes_per_token(); };
  EXPECT_EQ(bytes(CacheType::kModel), vectors * 6 * 4);
  EXPECT_EQ(bytes(CacheType::kBfloat16), vectors * 6 * 2);
  EXPECT_EQ(bytes(CacheType::kInt8), vectors * (6 + 4));
}

// Any way of cutting a sequence into steps, in blocks of any size, and of any type.
TEST_F(Cache, StepsEqualTheWhole) {
  const torch::Tensor ids = some_ids(1, 60)[0];
  for (const CacheType type : {CacheType::kModel, CacheType::kBfloat16, CacheType::kInt8}) {
    KvCache at_once = make(1, {.type = type, .block_tokens = 64});
    const torch::Tensor truth = step(at_once, 0, ids);
    for (const int64_t block : {1, 7, 32}) {
      for (const int64_t first : {1, 8, 20, 59}) {
        for (const int64_t then : {1, 2, 17}) {
          KvCache cache = make(1, {.type = type, .block_tokens = block});
          torch::Tensor logits = step(cache, 0, ids.narrow(0, 0, first));
          for (int64_t at = first; at < 60; at += then) {
            logits = step(cache, 0, ids.narrow(0, at, std::min(then, 60 - at)));
          }
          // A number halfway between two that are kept may go either way.
          const double tolerance = type == CacheType::kModel ? 1e-4 : 2e-2;
          EXPECT_LT((logits - truth).norm().item<float>(), tolerance * truth.norm().item<float>())
              << static_cast<int>(type) << " " << block << " " << first << " " << then;
        }
      }
    }
  }
}

// The step has rows that decode, that begin, that go on, and one that rests.
TEST_F(Cache, AStepOfManySpansEqualsEachAlone) {
  for (const CacheType type : {CacheType::kModel, CacheType::kInt8}) {
    const CacheOptions options = {.type = type, .block_tokens = 16};
    KvCache together = make(6, options), alone = make(6, options);
    const torch::Tensor before = some_ids(6, 30), now = some_ids(6, 70);
    const std::vector<int64_t> past = {30, 0, 21, 30, 7, 0}, next = {1, 70, 40, 0, 1, 3};
    model_.step(before, past, together);
    const torch::Tensor logits = model_.step(now, next, together);
    for (int64_t row = 0; row < 6; ++row) {
      if (past[row] > 0) step(alone, row, before[row].narrow(0, 0, past[row]));
      if (next[row] == 0) continue;
      expect_near(logits[row], step(alone, row, now[row].narrow(0, 0, next[row])));
    }
    EXPECT_EQ(logits[3].abs().max().item<float>(), 0.0F);
    EXPECT_EQ(together.lengths(), alone.lengths());
  }
}

TEST_F(Cache, StatesOfSomeTokensAreThoseAmongAll) {
  KvCache a = make(4), b = make(4);
  const torch::Tensor before = some_ids(4, 9), now = some_ids(4, 30);
  const std::vector<int64_t> past = {9, 0, 4, 0}, next = {1, 30, 20, 0}, some = {1, 2, 0, 0};
  model_.step(before, past, a);
  model_.step(before, past, b);
  const torch::Tensor all = model_.step_states(now, next, next, a);
  ASSERT_EQ(all.size(0), 51);
  const torch::Tensor wanted = at::tensor({0, 29, 30}, at::kLong);
  expect_near(model_.step_states(now, next, some, b), all.index_select(0, wanted));
  // Keys and values of the other tokens are there all the same.
  expect_near(model_.step(before, {1, 1, 1, 1}, b), model_.step(before, {1, 1, 1, 1}, a));
  for (const std::vector<int64_t>& wrong : {std::vector<int64_t>{2, 0, 0, 0}, {-1, 0, 0, 0}, {1}}) {
    EXPECT_THROW(model_.step_states(now, {1, 1, 1, 0}, wrong, a), c10::ValueError);
  }
}

TEST_F(Cache, ARowBeginsWithAnothersPrefix) {
  const torch::Tensor ids = some_ids(1, 40)[0], other = some_ids(1, 40)[0];
  for (const int64_t shared : {0, 1, 7, 8, 20, 24}) {
    KvCache cache = make(2, {.block_tokens = 8}), plain = make(1);
    step(cache, 1, other.narrow(0, 0, 13));
    step(cache, 0, ids.narrow(0, 0, 24));
    const int64_t before = cache.bytes();
    cache.share_prefix(0, 1, shared);
    EXPECT_LT(cache.bytes(), before) << "what the row held is given back, and nothing is copied";
    EXPECT_EQ(cache.lengths(), (std::vector<int64_t>{24, shared}));

    // Both go on, each in its own way, the one that gave away first or last.
    const auto goes_on = [&](int64_t row, int64_t held, const torch::Tensor& next) {
      const torch::Tensor logits = step(cache, row, next);
      plain.reset();
      expect_near(logits, step(plain, 0, torch::cat({ids.narrow(0, 0, held), next})));
    };
    cache.truncate(0, std::max<int64_t>(shared, 1));
    goes_on(shared % 2, cache.lengths()[shared % 2], other.narrow(0, 0, 3));
    goes_on(1 - shared % 2, cache.lengths()[1 - shared % 2], other.narrow(0, 20, 12));
    const int64_t held = cache.bytes();
    cache.truncate(0, 0);
    cache.truncate(1, 0);
    EXPECT_GT(held, 0);
    EXPECT_EQ(cache.bytes(), 0) << "shared blocks are given back by the last that holds them";
  }
}

TEST_F(Cache, SharedBlocksAreHeldOnce) {
  KvCache cache = make(4, {.blocks = 5, .block_tokens = 8});
  step(cache, 0, some_ids(1, 20)[0]);  // three blocks
  for (const int64_t row : {1, 2, 3}) cache.share_prefix(0, row, 16);
  EXPECT_EQ(cache.free_blocks(), 2);
  EXPECT_EQ(cache.room(0), 4 + 16);
  EXPECT_EQ(cache.room(1), 16);
  cache.share_prefix(0, 3, 20);  // the last block of both is partly filled
  EXPECT_EQ(cache.room(3), 4 + 8) << "a copy of it takes one of the two that are free";
  EXPECT_TRUE(cache.fits({0, 8, 8, 0}));
  EXPECT_FALSE(cache.fits({0, 8, 8, 1}));
  EXPECT_FALSE(cache.fits({1, 0, 0, 13}));
  cache.truncate(0, 0);
  EXPECT_EQ(cache.room(3), 4 + 16) << "nobody else holds it any more";
}

// Of the rows that share a block one may keep it: a pool for every row is never too small.
TEST_F(Cache, RowsThatShareAllFillThePool) {
  KvCache cache = make(3, {.block_tokens = 64}, 64);
  step(cache, 0, some_ids(1, 10)[0]);
  for (const int64_t row : {1, 2}) cache.share_prefix(0, row, 10);
  EXPECT_TRUE(cache.fits({54, 54, 54}));
  model_.step(some_ids(3, 2), {2, 1, 2}, cache);
  EXPECT_EQ(cache.free_blocks(), 0);
}

TEST_F(Cache, APoolThatIsExhaustedRefusesTheStep) {
  KvCache cache = make(2, {.blocks = 3, .block_tokens = 8});
  EXPECT_EQ(cache.room(0), 24);
  step(cache, 0, some_ids(1, 17)[0]);
  EXPECT_EQ(cache.room(0), 7);
  EXPECT_EQ(cache.room(1), 0);
  const int64_t held = cache.bytes();
  try {
    model_.step(some_ids(2, 1), {1, 1}, cache);
    FAIL() << "accepted";
  } catch (const c10::ValueError& error) {
    EXPECT_NE(std::string(error.what())
                  .find("[cache] expected a step that needs at most 0 more of "
                        "the cache's 3 blocks of 8 tokens, got one that needs 1"),
              std::string::npos)
        << error.what();
  }
  EXPECT_EQ(cache.lengths(), (std::vector<int64_t>{17, 0}));
  EXPECT_EQ(cache.bytes(), held);
  cache.truncate(0, 16);
  EXPECT_EQ(cache.room(1), 8);
  step(cache, 1, some_ids(1, 8)[0]);
  EXPECT_EQ(cache.free_blocks(), 0);
}

TEST_F(Cache, CapacityMayGrow) {
  const torch::Tensor ids = some_ids(1, 50)[0];
  KvCache cache = make(1, {.block_tokens = 4}, 20), large = make(1);
  step(cache, 0, ids.narrow(0, 0, 20));
  EXPECT_EQ(cache.room(0), 0);
  EXPECT_THROW(step(cache, 0, ids.narrow(0, 20, 1)), c10::ValueError);
  cache.extend(50);
  EXPECT_EQ(cache.room(0), 30);
  expect_near(step(cache, 0, ids.narrow(0, 20, 30)), step(large, 0, ids));
  EXPECT_THROW(cache.extend(49), c10::ValueError);
  EXPECT_THROW(cache.extend(129), c10::ValueError);
}

TEST_F(Cache, RefusesWhatDoesNotFit) {
  EXPECT_THROW(make(1, {.blocks = 0}), c10::ValueError);
  EXPECT_THROW(make(1, {.block_tokens = 0}), c10::ValueError);
  KvCache cache = make(2);
  step(cache, 0, some_ids(1, 5)[0]);
  EXPECT_THROW(cache.share_prefix(0, 2, 1), c10::ValueError);
  EXPECT_THROW(cache.share_prefix(-1, 0, 1), c10::ValueError);
  EXPECT_THROW(cache.share_prefix(0, 1, 6), c10::ValueError);
  EXPECT_THROW(cache.share_prefix(0, 1, -1), c10::ValueError);
  EXPECT_THROW(cache.room(2), c10::ValueError);
  EXPECT_THROW(cache.fits({1}), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::model
