#include "schmidt/model/decode_engine.h"

#include <algorithm>

#include <ATen/ops/empty.h>

#include "schmidt/kernels/add.h"
#include "schmidt/kernels/cached_attention.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/rms_norm.h"
#include "schmidt/kernels/rope.h"
#include "schmidt/kernels/swiglu.h"
#include "schmidt/kernels/team_products.h"

namespace schmidt::model {
namespace {

/// Bytes of weights that a block has for each thread that is worth waking.
constexpr int64_t kBytesPerThread = 128 << 10;

/// Lines of memory: what members write lies in lines of their own.
int64_t whole_lines(int64_t numbers) { return (numbers + 31) / 32 * 32; }

}  // namespace

/// Memory of one calling thread, kept from step to step.
struct DecodeEngine::Workspace {
  struct OfMember {
    torch::Tensor numbers;  // in the model's dtype
    std::vector<float> of_attention;
    kernels::TeamScratch of_products;
  };
  torch::Tensor shared;  // in the model's dtype
  std::vector<OfMember> members;
  kernels::CacheMemory cache;

  static torch::Tensor& grown(torch::Tensor& memory, int64_t numbers, torch::ScalarType dtype) {
    if (!memory.defined() || memory.scalar_type() != dtype || memory.numel() < numbers) {
      memory = at::empty({numbers}, at::TensorOptions(dtype));
    }
    return memory;
  }
};

/// One step of a team.
template <typename T>
class DecodeEngine::Pass {
 public:
  Pass(const DecodeEngine& engine, const torch::Tensor& h, const StepPlan& plan,
       const KvCache& cache, Workspace& workspace)
      : e_(engine), plan_(plan), workspace_(workspace), rows_(h.size(0)) {
    rope_ = {plan.rope.cos.contiguous(), plan.rope.sin.contiguous()};
    workspace.cache.look_up(cache.rows(), plan.queries.rows);
    for (int64_t token = 0; token < rows_; ++token) {
      const int64_t row = plan.queries.rows[token], position = plan.queries.positions[token];
      TORCH_CHECK_VALUE(position < workspace.cache.positions(row),
                        "[step] expected room for position ", position, " in row ", row,
                        " of the cache, got ", workspace.cache.positions(row), " positions");
    }
    qkv_row_ = e_.layers_.front().qkv->m();
    mixed_row_ = e_.heads_ * e_.d_;
    const int64_t sizes[] = {qkv_row_, mixed_row_, e_.hidden_, 2 * e_.intermediate_, e_.between_};
    T** const places[] = {&qkv_, &mixed_, &update_, &gate_up_, &between_};
    int64_t numbers = 0;
    for (const int64_t size : sizes) numbers += whole_lines(size * rows_);
    T* place = Workspace::grown(workspace.shared, numbers, e_.dtype_).mutable_data_ptr<T>();
    for (size_t i = 0; i < std::size(sizes); ++i) {
      *places[i] = place;
      place += whole_lines(sizes[i] * rows_);
    }
    const int64_t team = e_.small_ ? 1 : kernels::largest_team();
    if (std::cmp_less(workspace.members.size(), team)) workspace.members.resize(team);
    const int64_t own = 2 * whole_lines(e_.hidden_ * rows_) + whole_lines(e_.intermediate_ * rows_);
    const int64_t longest =
        *std::max_element(plan.queries.positions.begin(), plan.queries.positions.end()) + 1;
    for (Workspace::OfMember& member : workspace.members) {
      Workspace::grown(member.numbers, own, e_.dtype_);
      const auto needed = static_cast<size_t>(longest + 2 * e_.d_);
      if (member.of_attention.size() < needed) member.of_attention.resize(2 * needed);
    }
  }

  void run(const kernels::Member& member, const T* h, T* result) const {
    Workspace::OfMember& own = workspace_.members[static_cast<size_t>(member.index())];
    T* const residual = own.numbers.mutable_data_ptr<T>();
    T* const normed = residual + whole_lines(e_.hidden_ * rows_);
    T* const gated = normed + whole_lines(e_.hidden_ * rows_);
    std::copy_n(h, rows_ * e_.hidden_, residual);
    for (size_t i = 0; i < e_.layers_.size(); ++i) {
      const BlockLayers& layers = e_.layers_[i];
      norm(layers.qkv_norm, residual, normed);
      multiply(*layers.qkv, normed, qkv_, member, own);
      turn_and_store(layers, static_cast<int64_t>(i), member);
      attend(layers, static_cast<int64_t>(i), member, own);
      multiply(*layers.out, mixed_, update_, member, own);
      kernels::add(residual, update_, rows_ * e_.hidden_, e_.residual_scale_);
      norm(layers.gate_up_norm, residual, normed);
      multiply(*layers.gate_up, normed, gate_up_, member, own);
      kernels::swiglu_rows(gate_up_, gated, rows_, layers.down->n());
      multiply(*layers.down, gated, update_, member, own);
      kernels::add(residual, update_, rows_ * e_.hidden_, e_.residual_scale_);
    }
    if (member.index() == 0) std::copy_n(residual, rows_ * e_.hidden_, result);
  }

 private:
  void norm(const torch::Tensor& weight, const T* from, T* to) const {
    kernels::rms_norm_rows(from, weight.const_data_ptr<T>(), to, rows_, e_.hidden_, e_.eps_);
  }

  void multiply(const kernels::TeamProduct& product, const T* x, T* y,
                const kernels::Member& member, Workspace::OfMember& own) const {
    product.run(member, {x, y, between_, rows_, product.n(), product.m()}, own.of_products);
    member.meet();
  }

  /// Queries and keys to their places, keys and values into the cache.
  void turn_and_store(const BlockLayers& layers, int64_t layer,
                      const kernels::Member& member) const {
    const int64_t turning = e_.heads_ + e_.kv_heads_, half = e_.d_ / 2;
    const kernels::Share share = member.share(rows_ * turning);
    for (int64_t item = share.begin; item < share.end; ++item) {
      const int64_t token = item / turning, head = item % turning;
      const bool is_key = head >= e_.heads_;
      T* const of_token = qkv_ + token * qkv_row_;
      T* const x = of_token + head * e_.d_;
      const torch::Tensor& weight = is_key ? layers.k_norm : layers.q_norm;
      if (weight.defined()) {
        kernels::rms_norm_rows(x, weight.const_data_ptr<T>(), x, 1, e_.d_, e_.eps_);
      }
      kernels::rope_head(x, rope_.cos.const_data_ptr<float>() + token * half,
                         rope_.sin.const_data_ptr<float>() + token * half, e_.d_);
      if (!is_key) continue;
      kernels::store_head(workspace_.cache, layer, plan_.queries.rows[token],
                          plan_.queries.positions[token], head - e_.heads_, x,
                          x + e_.kv_heads_ * e_.d_);
    }
    member.meet();
  }

  void attend(const BlockLayers& layers, int64_t layer, const kernels::Member& member,
              Workspace::OfMember& own) const {
    const int64_t group = e_.heads_ / e_.kv_heads_;
    const kernels::Share share = member.share(rows_ * e_.heads_);
    for (int64_t item = share.begin; item < share.end; ++item) {
      const int64_t token = item / e_.heads_, head = item % e_.heads_;
      const kernels::HeadQuery query = {
          .layer = layer,
          .row = plan_.queries.rows[token],
          .position = plan_.queries.positions[token],
          .kv_head = head / group,
          .window = layers.window,
          .scale = static_cast<float>(e_.scores_.scale_of(e_.d_)),
          .softcap = static_cast<float>(e_.scores_.softcap.value_or(0.0))};
      kernels::attend_head(workspace_.cache, query, qkv_ + token * qkv_row_ + head * e_.d_,
                           mixed_ + token * mixed_row_ + head * e_.d_, own.of_attention.data());
    }
    member.meet();
  }

  const DecodeEngine& e_;
  const StepPlan& plan_;
  Workspace& workspace_;
  int64_t rows_, qkv_row_, mixed_row_;
  RopeTable rope_;
  T *qkv_, *mixed_, *update_, *gate_up_, *between_;  // shared, [rows, ..]
};

DecodeEngine::DecodeEngine(const ModelConfig& config, std::vector<BlockLayers> layers,
                           torch::ScalarType dtype)
    : hidden_(config.hidden_size),
      heads_(config.num_heads),
      kv_heads_(config.num_kv_heads),
      d_(config.head_dim),
      intermediate_(std::ranges::max(config.mlp_sizes)),
      eps_(static_cast<float>(config.rms_norm_eps)),
      residual_scale_(static_cast<float>(config.residual_scale)),
      scores_{config.attention_scale, config.attention_softcap},
      dtype_(dtype),
      layers_(std::move(layers)) {
  int64_t bytes = 0;
  for (const BlockLayers& block : layers_) {
    for (const auto* product : {&block.qkv, &block.out, &block.gate_up, &block.down}) {
      between_ = std::max(between_, (*product)->between());
      bytes += (*product)->bytes();
    }
  }
  small_ = bytes < 2 * kBytesPerThread * static_cast<int64_t>(layers_.size());
}

bool DecodeEngine::suits(const ModelConfig& config) {
  return config.norms == NormPlacement::kBefore && config.norm_offset == 0.0 &&
         config.qk_norm != QkNorm::kWhole && config.activation == Activation::kSilu &&
         !config.experts && !config.rope.local_theta &&
         rotary_dim(config.rope, config.head_dim) == config.head_dim &&
         kernels::team_products_are_fast();
}

std::shared_ptr<const DecodeEngine> DecodeEngine::make(const ModelConfig& config,
                                                       const std::vector<Block>& blocks,
                                                       torch::ScalarType dtype) {
  const bool fast_type = dtype == torch::kFloat32 || dtype == torch::kBFloat16;
  if (!fast_type || !suits(config) || blocks.empty()) {
    return nullptr;
  }
  std::vector<BlockLayers> all;
  for (const Block& block : blocks) {
    BlockLayers layers{.qkv_norm = block.weight(Norm::kQkvInput),
                       .q_norm = block.weight(Norm::kQ),
                       .k_norm = block.weight(Norm::kK),
                       .gate_up_norm = block.weight(Norm::kGateUpInput),
                       .window = config.windows[all.size()]};
    for (const auto& [group, product] :
         {std::pair{Group::kQkv, &BlockLayers::qkv}, std::pair{Group::kOut, &BlockLayers::out},
          std::pair{Group::kGateUp, &BlockLayers::gate_up},
          std::pair{Group::kDown, &BlockLayers::down}}) {
      layers.held.push_back(block.projection(group));
      layers.*product = layers.held.back()->team_product(dtype);
      if (layers.*product == nullptr) return nullptr;
    }
    const bool fits = layers.qkv_norm.is_cpu() && layers.qkv_norm.scalar_type() == dtype;
    if (!fits) return nullptr;
    all.push_back(std::move(layers));
  }
  return std::shared_ptr<const DecodeEngine>(new DecodeEngine(config, std::move(all), dtype));
}

bool DecodeEngine::suits(const StepPlan& plan) const {
  return !plan.queries.rows.empty() && !plan.single_tokens.defined() &&
         std::cmp_less_equal(plan.queries.rows.size(), kernels::kMostTeamRows);
}

torch::Tensor DecodeEngine::step(const torch::Tensor& h, const StepPlan& plan,
                                 const KvCache& cache) const {
  thread_local Workspace workspace;
  const torch::Tensor from = h.contiguous();
  torch::Tensor result = at::empty(h.sizes(), h.options());
  kernels::with_fast_type(dtype_, [&]<typename T>(T* /*type*/) {
    const Pass<T> pass(*this, from, plan, cache, workspace);
    kernels::run_team(small_, [&](const kernels::Member& member) {
      pass.run(member, from.const_data_ptr<T>(), result.mutable_data_ptr<T>());
    });
  });
  return result;
}

}  // namespace schmidt::model
