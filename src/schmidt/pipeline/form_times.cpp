#include "schmidt/pipeline/form_times.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <fmt/format.h>

#include "schmidt/model/decode_engine.h"
#include "schmidt/model/dense_projection.h"
#include "schmidt/model/factored_projection.h"
#include "schmidt/model/low_rank_projection.h"
#include "schmidt/model/model.h"
#include "schmidt/model/products_in_turn.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/model/sum_projection.h"

namespace schmidt::pipeline {
namespace {

constexpr int kRounds = 8;
constexpr double kEnough = 0.02;  // seconds, after which no more rounds are needed
/// Weights in turn, so that none is in a cache from the time before; fewer where many rows make the
/// weights' way from memory short beside the products.
constexpr int64_t kBytesInTurn = 64 << 20, kMostInTurn = 256, kManyRows = 64;

/// Time does not depend on what the codes are.
model::QuantizedMatrix integers(const quant::IntegerFormat& format, int64_t m, int64_t n) {
  const torch::Tensor packed = at::full({m, quant::packed_words(n, format.bits)}, 0x5a5a5a5a,
                                        at::TensorOptions(torch::kInt32));
  const torch::Tensor scales = at::ones({m, n / format.group}, at::TensorOptions(torch::kBFloat16));
  const torch::Tensor zeros = format.symmetric
                                  ? torch::Tensor()
                                  : at::ones(scales.sizes(), at::TensorOptions(torch::kUInt8));
  return {format, packed, scales, zeros, kernels::Activations::kInt8};
}

/// A layer in a form.
model::ProjectionPtr in_form(const plan::Layer& layer, const std::optional<plan::LayerPlan>& plan,
                             torch::ScalarType dtype) {
  const int64_t m = layer.rows, n = layer.cols;
  if (!plan) {
    const model::LayerSpec spec{layer.name, m, n, false};
    return std::make_shared<model::DenseProjection>(
        std::vector{spec}, at::ones({m, n}, at::TensorOptions(dtype)), std::nullopt);
  }
  if (!plan->is_rounded()) {
    const int64_t rank = plan->rank();
    const auto numbers = at::TensorOptions(dtype);
    tn::GaugeFixed factors{
        plan->shape,
        {at::ones({m - rank, rank}, numbers), at::ones({rank, 1, n, 1}, numbers)},
        {at::arange(rank, at::TensorOptions(torch::kInt64))}};
    return std::make_shared<model::LowRankProjection>(
        std::vector{model::LowRankLayer{layer.name, std::move(factors), std::nullopt}});
  }
  std::vector<model::ProjectionPtr> terms;
  if (plan->integers) {
    terms.push_back(std::make_shared<model::QuantizedProjection>(
        layer.name, integers(*plan->integers, m, n), std::nullopt, dtype));
  }
  if (plan->factor_integers) {
    terms.push_back(std::make_shared<model::FactoredProjection>(
        layer.name, integers(plan->left_integers(), m, plan->rank()),
        integers(*plan->factor_integers, plan->rank(), n), std::nullopt, dtype));
  }
  if (terms.size() == 1) return terms.front();
  return std::make_shared<model::SumProjection>(layer.name, std::move(terms), std::nullopt);
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The least over rounds, after one that does not count: what else runs only adds.
double least_seconds(const std::function<void()>& work) {
  work();
  double least = std::numeric_limits<double>::infinity(), spent = 0.0;
  for (int i = 0; i < kRounds && (i < 2 || spent < kEnough); ++i) {
    const double seconds = seconds_of(work);
    least = std::min(least, seconds);
    spent += seconds;
  }
  return least;
}

/// Seconds of one product of a form with x of so many rows.
double measured(const plan::Layer& layer, const std::optional<plan::LayerPlan>& plan, int64_t bytes,
                int64_t rows, torch::ScalarType dtype, bool by_team) {
  const int64_t most = rows > kManyRows ? 2 : kMostInTurn;
  const int64_t count = std::clamp<int64_t>(kBytesInTurn / std::max<int64_t>(1, bytes), 2, most);
  std::vector<model::ProjectionPtr> projections;
  for (int64_t i = 0; i < count; ++i) projections.push_back(in_form(layer, plan, dtype));
  const torch::Tensor x = at::randn({rows, layer.cols}, at::TensorOptions(dtype));
  model::ProductsInTurn products(std::move(projections), dtype, by_team);
  const double all = least_seconds([&] { products.run(x); });
  return all / static_cast<double>(count);
}

/// What decides the time of a form.
std::string key(const plan::Layer& layer, const std::optional<plan::LayerPlan>& plan) {
  return fmt::format("{} x {} {}", layer.rows, layer.cols,
                     plan ? plan::form_text(*plan) +
                                (plan->integers && plan->integers->symmetric ? " symmetric" : "")
                          : "dense");
}

/// Seconds of a step through some blocks of the model as they are, for each of them.
double step_of_a_block(const io::Checkpoint& checkpoint, const Workload& workload,
                       int64_t dense_bytes) {
  const auto config = model::parse_config(checkpoint.config(), checkpoint.path());
  const int64_t count =
      std::clamp<int64_t>(kBytesInTurn / std::max<int64_t>(1, dense_bytes), 1, config.num_layers);
  const model::Model part =
      model::Model::load_part(checkpoint, 0, count, {.dtype = workload.dtype});
  const int64_t tokens = workload.prefill ? workload.prompt : 1;
  model::KvCache cache = part.make_cache(workload.batch, tokens);
  const torch::Tensor ids =
      at::randint(config.vocab_size, {workload.batch, tokens}, at::TensorOptions(torch::kInt64));
  const double all = least_seconds([&] {
    cache.reset();
    const std::vector<int64_t> lengths(workload.batch, tokens);
    const model::StepPlan plan = model::plan_step(ids, lengths, cache);
    cache.make_room(lengths);
    part.step_blocks(part.embed(plan.ids), plan, cache);
  });
  return all / static_cast<double>(count);
}

}  // namespace

double StepTimes::original() const { return std::accumulate(dense.begin(), dense.end(), rest); }

StepTimes measure_times(const io::Checkpoint& model, const Competition& competition,
                        const Workload& workload) {
  const at::NoGradGuard no_grad;
  TORCH_CHECK_VALUE(workload.batch >= 1 && workload.prompt >= 1,
                    "[plan] expected a batch and a prompt of 1 or more");
  const auto config = model::parse_config(model.config(), model.path());
  TORCH_CHECK_VALUE(!workload.prefill || workload.prompt <= config.max_positions,
                    "[plan] expected a prompt of at most ", config.max_positions,
                    " tokens, the model's context, got ", workload.prompt);
  StepTimes times;
  std::map<std::string, double> known;
  double of_blocks = 0.0;
  int64_t bytes_of_blocks = 0;
  for (const plan::LayerForms& layer : competition.layers) {
    // Of prompts the last token alone reaches the output layer. An embedding that is none gives
    // rows away and multiplies nothing.
    const bool vocabulary = layer.layer.block < 0;
    const bool free = vocabulary && !config.tie_embeddings && layer.layer.name != "lm_head";
    const int64_t rows = vocabulary ? workload.batch : workload.rows();
    const auto time = [&](const std::optional<plan::LayerPlan>& plan, int64_t bytes) {
      if (free) return 0.0;
      const auto [found, unknown] =
          known.try_emplace(key(layer.layer, plan) + fmt::format(" {}", rows), 0.0);
      if (unknown) {
        found->second = measured(layer.layer, plan, bytes, rows, workload.dtype,
                                 !vocabulary && model::DecodeEngine::suits(config));
      }
      return found->second;
    };
    const auto scalar = static_cast<int64_t>(c10::elementSize(workload.dtype));
    times.dense.push_back(time({}, layer.layer.numel() * scalar));
    times.forms.emplace_back();
    for (const plan::Form& form : layer.forms) {
      times.forms.back().push_back(time(form.plan, form.bytes));
    }
    if (vocabulary) continue;
    of_blocks += times.dense.back();
    bytes_of_blocks += layer.layer.numel() * scalar;
  }
  const double block = step_of_a_block(model, workload, bytes_of_blocks / config.num_layers);
  times.rest = std::max(0.0, block * static_cast<double>(config.num_layers) - of_blocks);
  return times;
}

}  // namespace schmidt::pipeline
