// Steps of a few tokens by a team, against Block::step, for layers of every form.

#include "schmidt/model/decode_engine.h"

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/quantized_gemm.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/factored_projection.h"
#include "schmidt/model/low_rank_projection.h"
#include "schmidt/model/model.h"
#include "schmidt/model/mpo_projection.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"
#include "schmidt/tn/gauge.h"

#include "tests/support/tiny_model.h"

namespace {

std::atomic<int64_t> allocations;

/// Counts tensors' memory, which operator new does not give.
struct CountingAllocator : c10::Allocator {
  explicit CountingAllocator(c10::Allocator* from) : from(from) {}
  c10::DataPtr allocate(size_t size) override {
    ++allocations;
    return from->allocate(size);
  }
  void copy_data(void* to, const void* data, size_t size) const override {
    default_copy_data(to, data, size);
  }
  c10::Allocator* from;
};

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  ++allocations;
  void* const memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t& /*tag*/) noexcept {
  ++allocations;
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t /*size*/) noexcept {
  std::free(memory);
}

namespace schmidt::model {
namespace {

constexpr int64_t kScale = 16;  // hidden 384, MLP 576: large enough for several threads

QuantizedMatrix integers(int64_t m, int64_t n, int bits, int64_t group) {
  const quant::IntegerFormat format{bits, group, false};
  return QuantizedMatrix(
      format, at::randint(INT32_MIN, INT32_MAX, {m, quant::packed_words(n, bits)}, torch::kInt32),
      ((at::rand({m, n / group}) + 0.1) * 0.1 / format.levels()).to(torch::kFloat16),
      at::randint(0, format.levels(), {m, n / group}, torch::kUInt8), kernels::Activations::kInt8);
}

ProjectionPtr quantized(int64_t m, int64_t n, torch::ScalarType dtype, int bits = 4,
                        bool bias = false) {
  std::optional<torch::Tensor> b;
  if (bias) b = at::randn({m}).to(dtype);
  return std::make_shared<QuantizedProjection>("layer", integers(m, n, bits, 32), b, dtype);
}

ProjectionPtr dense(int64_t m, int64_t n, torch::ScalarType dtype) {
  return std::make_shared<DenseProjection>(std::vector<LayerSpec>{{"layer", m, n}},
                                           (at::randn({m, n}) * 0.05).to(dtype), std::nullopt);
}

ProjectionPtr low_rank(int64_t m, int64_t n, torch::ScalarType dtype) {
  const int64_t r = m / 3;
  tn::GaugeFixed weight =
      tn::fix_gauge(tn::Mpo({at::randn({1, m, 1, r}) * 0.05, at::randn({r, 1, n, 1}) * 0.1}));
  for (torch::Tensor& core : weight.cores) core = core.to(dtype);
  return std::make_shared<LowRankProjection>(
      std::vector<LowRankLayer>{{"layer", std::move(weight), std::nullopt}});
}

/// Of so many sites; of one, a low rank without the gauge.
template <int kSites>
ProjectionPtr network(int64_t m, int64_t n, torch::ScalarType dtype) {
  const tn::SiteShape shape =
      kSites == 1 ? tn::low_rank_shape(m, n) : tn::balanced_shape(m, n, kSites);
  const std::vector<int64_t> bonds(shape.out_dims.size() - 1, kSites == 1 ? 33 : 11);
  std::vector<torch::Tensor> cores;
  int64_t left = 1;
  for (size_t k = 0; k < shape.out_dims.size(); ++k) {
    const int64_t right = k < bonds.size() ? bonds[k] : 1;
    cores.push_back(
        (at::randn({left, shape.out_dims[k], shape.in_dims[k], right}) * 0.2).to(dtype));
    left = right;
  }
  return std::make_shared<MpoProjection>("layer", tn::Mpo(std::move(cores)),
                                         at::randn({m}).to(dtype), torch::Tensor());
}

ProjectionPtr factored(int64_t m, int64_t n, torch::ScalarType dtype) {
  return std::make_shared<FactoredProjection>("layer", integers(m, 64, 3, 32),
                                              integers(64, n, 8, 64), std::nullopt, dtype);
}

ProjectionPtr sum(int64_t m, int64_t n, torch::ScalarType dtype) {
  return std::make_shared<SumProjection>(
      "layer", std::vector<ProjectionPtr>{quantized(m, n, dtype, 2), factored(m, n, dtype)},
      std::nullopt);
}

ProjectionPtr nf4(int64_t m, int64_t n, torch::ScalarType dtype) {
  const Nf4Matrix matrix(nf4_encoded(at::randn({m, n}) * 0.05));
  return std::make_shared<Nf4Projection>("layer", matrix, nf4_weight("layer", matrix, dtype),
                                         std::nullopt, dtype);
}

/// Ranks that are odd, in groups of whole rows and in such as end within a block.
ProjectionPtr odd_ranks(int64_t m, int64_t n, torch::ScalarType dtype) {
  const auto part = [&](int64_t rows, int64_t rank, int64_t group) {
    return std::make_shared<FactoredProjection>("layer", integers(rows, rank, 4, group),
                                                integers(rank, n, 4, 32), std::nullopt, dtype);
  };
  return concatenate({part(m / 2, 33, 33), part(m / 4, 123, 41), part(m / 4, 35, 35)});
}

ProjectionPtr side_by_side(int64_t m, int64_t n, torch::ScalarType dtype) {
  return concatenate({quantized(m / 2, n, dtype, 5), factored(m / 4, n, dtype),
                      quantized(m / 4, n, dtype, 6, /*bias=*/true)});
}

/// Of results in numbers of a dtype. Where integers meet more rows by other kernels (VNNI without
/// VBMI), sums in another order may round what the next product reads to other integers.
double tolerance_in(torch::ScalarType dtype) {
  const bool same_kernels = !kernels::quantized_gemm_is_fast() ||
                            kernels::supported(kernels::InstructionSet::kAvx512Vbmi);
  return dtype == torch::kFloat32 && same_kernels ? 1e-5 : 1e-2;
}

using Maker = ProjectionPtr (*)(int64_t m, int64_t n, torch::ScalarType dtype);

Model tiny(torch::ScalarType dtype, const test::TinyModel& of = test::make_tiny_model(2, 3, kScale),
           CacheType cache = CacheType::kModel) {
  return Model::load(of.config, Weights(of.tensors, "tiny", {.dtype = dtype, .cache_type = cache}));
}

std::vector<Block> blocks_of(const Model& model, Maker make = nullptr) {
  const ModelConfig& c = model.config();
  std::vector<Block> blocks;
  for (int64_t i = 0; i < model.num_blocks(); ++i) {
    blocks.push_back(model.block(i));
    if (make == nullptr) continue;
    const std::pair<Group, std::pair<int64_t, int64_t>> sizes[] = {
        {Group::kQkv, {c.q_features() + 2 * c.kv_features(), c.hidden_size}},
        {Group::kOut, {c.hidden_size, c.q_features()}},
        {Group::kGateUp, {2 * c.intermediate_size, c.hidden_size}},
        {Group::kDown, {c.hidden_size, c.intermediate_size}}};
    for (const auto& [group, size] : sizes) {
      blocks.back().replace(group, make(size.first, size.second, model.dtype()));
    }
  }
  return blocks;
}

/// Steps of three rows that grow by so many tokens at a time.
const std::vector<std::vector<int64_t>> kSteps = {
    {1, 1, 1}, {1, 0, 2}, {0, 4, 0}, {3, 2, 3}, {1, 1, 1}};

template <typename Step>
std::vector<torch::Tensor> walk(const Model& model, const Step& step) {
  torch::manual_seed(7);
  KvCache cache = model.make_cache(3, 16);
  std::vector<torch::Tensor> all;
  for (const std::vector<int64_t>& lengths : kSteps) {
    const torch::Tensor ids = at::randint(264, {3, 4}, torch::kInt64);
    const StepPlan plan = plan_step(ids, lengths, cache);
    cache.make_room(lengths);
    all.push_back(step(model.embed(plan.ids), plan, cache));
    for (const auto& span : plan.spans) cache.advance(span.row, span.length);
  }
  return all;
}

void expect_the_same(const Model& model, const std::vector<Block>& blocks, double tolerance) {
  const auto engine = DecodeEngine::make(model.config(), blocks, model.dtype());
  ASSERT_NE(engine, nullptr);
  const auto singly = walk(model, [&](torch::Tensor h, const StepPlan& plan, const KvCache& cache) {
    for (const Block& block : blocks) h = block.step(h, plan, cache);
    return h;
  });
  const auto ours =
      walk(model, [&](const torch::Tensor& h, const StepPlan& plan, const KvCache& cache) {
        EXPECT_TRUE(engine->suits(plan));
        return engine->step(h, plan, cache);
      });
  for (size_t i = 0; i < singly.size(); ++i) {
    const torch::Tensor wide = singly[i].to(torch::kFloat32);
    const double error = (ours[i].to(torch::kFloat32) - wide).norm().item<double>();
    EXPECT_LE(error, tolerance * wide.norm().item<double>()) << "step " << i;
    EXPECT_GT(wide.norm().item<double>(), 0.0);
  }
}

class Engine : public testing::Test {
 protected:
  void SetUp() override {
    if (!kernels::gemv_is_fast()) GTEST_SKIP() << "no vectors here";
    torch::manual_seed(11);
  }
  at::NoGradGuard no_grad_;
};

TEST_F(Engine, GivesWhatTheBlocksGive) {
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    const Model model = tiny(dtype);
    const double tolerance = tolerance_in(dtype);
    for (const Maker make : {Maker{}, Maker{dense}, Maker{low_rank}, Maker{factored}, Maker{sum},
                             Maker{nf4}, Maker{side_by_side}, Maker{odd_ranks}}) {
      expect_the_same(model, blocks_of(model, make), tolerance);
    }
    // A few rows of a network may be contracted in another order than one, each step rounded.
    for (const Maker make :
         {Maker{network<1>}, Maker{network<2>}, Maker{network<3>}, Maker{network<4>}}) {
      expect_the_same(model, blocks_of(model, make), dtype == torch::kFloat32 ? 1e-5 : 4e-2);
    }
    expect_the_same(model,
                    blocks_of(model, [](int64_t m, int64_t n,
                                        torch::ScalarType type) { return quantized(m, n, type); }),
                    tolerance);
  }
}

TEST_F(Engine, OnAnyNumberOfThreads) {
  const int before = at::get_num_threads();
  const Model model = tiny(torch::kFloat32);
  for (const int threads : {1, 2, 3}) {
    at::set_num_threads(threads);
    expect_the_same(model, blocks_of(model, sum), tolerance_in(torch::kFloat32));
    expect_the_same(model, blocks_of(model, low_rank), 1e-5);
    expect_the_same(model, blocks_of(model, network<3>), 1e-5);
  }
  at::set_num_threads(before);
}

TEST_F(Engine, KeepsKeysAndValuesInAnyType) {
  for (const auto cache : {CacheType::kBfloat16, CacheType::kInt8}) {
    const Model model = tiny(torch::kFloat32, test::make_tiny_model(2, 3, kScale), cache);
    expect_the_same(model, blocks_of(model), 1e-5);
  }
}

TEST_F(Engine, KnowsBiasesNormsOfHeadsWindowsAndFactors) {
  const std::pair<const char*, nlohmann::json> families[] = {{"qwen2", nlohmann::json::object()},
                                                             {"qwen3", nlohmann::json::object()},
                                                             {"mistral", {{"sliding_window", 3}}},
                                                             {"granite",
                                                              {{"residual_multiplier", 0.3},
                                                               {"attention_multiplier", 0.2},
                                                               {"embedding_multiplier", 2.0},
                                                               {"logits_scaling", 3.0}}}};
  for (const auto& [type, changes] : families) {
    SCOPED_TRACE(type);
    const Model model = tiny(torch::kFloat32, test::make_tiny_model_of(type, changes));
    expect_the_same(model, blocks_of(model), 1e-5);
  }
}

TEST_F(Engine, IsNoneWhereABlockHasOtherParts) {
  const auto made = [](const char* type) {
    const Model model =
        tiny(torch::kFloat32, test::make_tiny_model_of(type, nlohmann::json::object()));
    return DecodeEngine::make(model.config(), blocks_of(model), torch::kFloat32) != nullptr;
  };
  EXPECT_TRUE(made("llama"));
  EXPECT_FALSE(made("olmo2"));
  EXPECT_FALSE(made("gemma2"));
  const Model model = tiny(torch::kFloat32);
  const auto exact = [](int64_t m, int64_t n, torch::ScalarType dtype) -> ProjectionPtr {
    const QuantizedMatrix w = integers(m, n, 4, 32);
    return std::make_shared<QuantizedProjection>(
        "layer", QuantizedMatrix(w.format(), w.packed(), w.scales(), w.zeros()), std::nullopt,
        dtype);
  };
  EXPECT_EQ(DecodeEngine::make(model.config(), blocks_of(model, exact), torch::kFloat32), nullptr);
}

TEST_F(Engine, AModelWhoseBlockIsReplacedForgetsIt) {
  Model model = tiny(torch::kFloat32);
  const torch::Tensor ids = torch::tensor({{5}}, torch::kInt64);
  KvCache before = model.make_cache(1, 4);
  const torch::Tensor old = model.step(ids, {1}, before);
  model.block(0).replace(Group::kDown, dense(model.config().hidden_size,
                                             model.config().intermediate_size, torch::kFloat32));
  KvCache after = model.make_cache(1, 4);
  const torch::Tensor changed = model.step(ids, {1}, after);
  EXPECT_GT((changed - old).abs().max().item<double>(), 1e-3);
  EXPECT_TRUE(changed.allclose(model.forward(ids)[0], 1e-4, 1e-5));
}

TEST_F(Engine, AllocatesNothingForABlock) {
  CountingAllocator counting(c10::GetCPUAllocator());
  const auto of_step = [&](int64_t blocks) {
    const Model model = tiny(torch::kBFloat16, test::make_tiny_model(blocks, 3, kScale));
    const auto engine =
        DecodeEngine::make(model.config(), blocks_of(model, side_by_side), model.dtype());
    KvCache cache = model.make_cache(1, 16);
    int64_t least = INT64_MAX;
    for (int64_t i = 0; i < 8; ++i) {
      const StepPlan plan = plan_step(torch::tensor({{5}}, torch::kInt64), {1}, cache);
      cache.make_room({1});
      const torch::Tensor h = model.embed(plan.ids);
      c10::SetCPUAllocator(&counting, /*priority=*/1);
      const int64_t before = allocations;
      const torch::Tensor result = engine->step(h, plan, cache);
      if (i > 0) least = std::min<int64_t>(least, allocations - before);
      c10::SetCPUAllocator(counting.from, /*priority=*/1);
      cache.advance(0, 1);
    }
    return least;
  };
  const int64_t of_two = of_step(2);
  EXPECT_GT(of_two, 0);  // its result
  EXPECT_LT(of_two, 10);
  EXPECT_EQ(of_step(6), of_two);
}

TEST_F(Engine, SeveralThreadsMayCallIt) {
  const Model model = tiny(torch::kFloat32);
  const torch::Tensor ids = torch::tensor({{5}}, torch::kInt64);
  const auto logits = [&] {
    const at::NoGradGuard no_grad;
    KvCache cache = model.make_cache(1, 40);
    torch::Tensor last;
    for (int i = 0; i < 40; ++i) last = model.step(ids, {1}, cache);
    return last;
  };
  const torch::Tensor alone = logits();
  torch::Tensor first, second;
  std::thread other([&] { first = logits(); });
  second = logits();
  other.join();
  EXPECT_TRUE(torch::equal(first, alone));
  EXPECT_TRUE(torch::equal(second, alone));
}

}  // namespace
}  // namespace schmidt::model
