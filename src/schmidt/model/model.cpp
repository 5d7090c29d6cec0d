#include "schmidt/model/model.h"

#include <charconv>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/model/decode_engine.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/model/likeliest_search.h"
#include "schmidt/model/norm.h"
#include "schmidt/model/require_model.h"
#include "schmidt/model/vocabulary_scale.h"

namespace schmidt::model {
namespace {

// A config that names fewer layers than are stored would silently drop the rest.
void check_no_layers_left(const ModelConfig& config, const Weights& weights) {
  constexpr std::string_view kPrefix = "model.layers.";
  for (const std::string& name : weights.names()) {
    if (!name.starts_with(kPrefix)) continue;
    int64_t index = -1;
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), index);
    if (index >= config.num_layers) {
      throw FormatError(weights.path(), name,
                        fmt::format("expected layers below num_hidden_layers {}, found this one",
                                    config.num_layers));
    }
  }
}

void check_experts_apart(const Weights& weights) {
  for (const std::string& name : weights.names()) {
    if (!name.ends_with(".experts.gate_up_proj") && !name.ends_with(".experts.down_proj")) continue;
    throw FormatError(weights.path(), name,
                      "expected each expert's layers as tensors of their own, found those of all "
                      "experts in one");
  }
}

std::vector<NamedTensor> of_the_vocabulary(const Projection& projection) {
  std::vector<NamedTensor> all = projection.parameters();
  for (NamedTensor& parameter : all) {
    if (parameter.role == Role::kDense) parameter.role = Role::kVocabulary;
  }
  return all;
}

int64_t bytes_of(const std::vector<NamedTensor>& tensors) {
  int64_t bytes = 0;
  for (const NamedTensor& t : tensors) bytes += static_cast<int64_t>(t.tensor.nbytes());
  return bytes;
}

int64_t bytes_of(const Projection& projection) { return bytes_of(projection.tensors()); }

nlohmann::json config_in_force(const io::Checkpoint& checkpoint) {
  nlohmann::json config = checkpoint.config();
  // Where both name an end of text, generation_config.json is the one in force.
  const nlohmann::json& generation = checkpoint.generation_config();
  if (config.is_object() && generation.is_object() && generation.contains("eos_token_id")) {
    config["eos_token_id"] = generation["eos_token_id"];
  }
  return config;
}

}  // namespace

Model Model::load(const io::Checkpoint& checkpoint, const LoadOptions& options) {
  return load(config_in_force(checkpoint), Weights(checkpoint, options));
}

Model Model::load(const nlohmann::json& config, const Weights& weights) {
  return load_blocks(config, weights, 0, std::nullopt);
}

Model Model::load_part(const io::Checkpoint& checkpoint, int64_t begin, int64_t end,
                       const LoadOptions& options) {
  return load_blocks(config_in_force(checkpoint), Weights(checkpoint, options), begin, end);
}

Model Model::load_blocks(const nlohmann::json& config, const Weights& weights, int64_t begin,
                         std::optional<int64_t> end) {
  Model model;
  model.like_ =
      at::empty({0}, at::TensorOptions(weights.options().device).dtype(weights.options().dtype));
  model.cache_type_ = weights.options().cache_type;
  model.config_ = parse_config(config, weights.path());
  const ModelConfig& c = model.config_;
  check_no_layers_left(c, weights);
  if (c.experts) check_experts_apart(weights);
  check_compressed_names(c, weights.path());
  require_output_layer(c, weights);
  const int64_t stop = end.value_or(c.num_layers);
  TORCH_CHECK_VALUE(begin >= 0 && begin <= stop && stop <= c.num_layers,
                    "[model] expected blocks among ", c.num_layers, ", got ", begin, " to ", stop);
  const bool head = stop == c.num_layers;
  const bool tied = has_tied_head(c);
  if (begin == 0 || (head && tied)) {
    const LayerSpec embedding = embedding_layer(c);
    model.embedding_ = load_group({&embedding, 1}, c, weights);
  }
  for (int64_t i = begin; i < stop; ++i) model.blocks_.emplace_back(c, i, weights);
  if (begin == 0) {
    model.engine_ = DecodeEngine::make(c, model.blocks_, weights.options().dtype);
  }
  if (head) {
    const LayerSpec output = output_layer(c);
    model.norm_ = weights.read("model.norm.weight", {c.hidden_size});
    model.output_ = tied ? model.embedding_ : load_group({&output, 1}, c, weights);
    if (weights.options().search_likeliest) {
      model.search_ = LikeliestSearch::make(c, model.output_);
    }
  }
  return model;
}

torch::Tensor Model::embed(const torch::Tensor& ids) const {
  TORCH_CHECK_VALUE(ids.scalar_type() == torch::kInt64, "[embed] expected int64 ids, got ",
                    ids.scalar_type());
  TORCH_CHECK_VALUE(embedding_ != nullptr, "[embed] expected the part with the first block");
  if (ids.numel() > 0) {
    const auto [low, high] = ids.aminmax();
    const int64_t least = low.item<int64_t>();
    const int64_t most = high.item<int64_t>();
    TORCH_CHECK_VALUE(least >= 0 && most < config_.vocab_size, "[embed] expected ids in [0, ",
                      config_.vocab_size, "), got ", least < 0 ? least : most);
  }
  return embedded(config_, embedding_->rows(ids.to(device())));
}

torch::Tensor Model::final_norm(const torch::Tensor& h) const {
  TORCH_CHECK_VALUE(norm_.defined(), "[final_norm] expected the part with the last block");
  return normed(config_, h, norm_);
}

torch::Tensor Model::hidden(const torch::Tensor& ids,
                            const std::optional<torch::Tensor>& segments) const {
  TORCH_CHECK_VALUE(ids.dim() == 2, "[hidden] expected ids [b, t], got ", ids.sizes());
  TORCH_CHECK_VALUE(!segments || segments->sizes() == ids.sizes(), "[hidden] expected segments ",
                    ids.sizes(), ", got ", segments->sizes());
  const Packing packing = segments ? packing_of(*segments) : Packing{};
  torch::Tensor h = embed(ids);
  const RopeTable table = rope(ids.size(1));
  for (const Block& block : blocks_) h = block.forward(h, table, packing);
  return final_norm(h);
}

torch::Tensor Model::logits(const torch::Tensor& hidden) const {
  TORCH_CHECK_VALUE(norm_.defined(), "[logits] expected the part with the last block");
  return logits_of(config_, output_->apply(hidden));
}

std::optional<std::vector<int64_t>> Model::find_likeliest(
    const torch::Tensor& hidden, const std::vector<int64_t>& excluded) const {
  if (search_ == nullptr) return std::nullopt;
  return search_->find(hidden, excluded);
}

torch::Tensor Model::output_rows(const torch::Tensor& tokens) const {
  TORCH_CHECK_VALUE(norm_.defined(), "[logits] expected the part with the last block");
  return output_->rows(tokens);
}

torch::Tensor Model::step_blocks(torch::Tensor h, const StepPlan& plan, const KvCache& cache,
                                 const torch::Tensor& wanted) const {
  if (engine_ != nullptr && engine_->suits(plan)) {
    h = engine_->step(h, plan, cache);
    return wanted.defined() ? h.index_select(0, wanted) : h;
  }
  for (const Block& block : blocks_) {
    h = block.step(h, plan, cache, &block == &blocks_.back() ? wanted : torch::Tensor());
  }
  return h;
}

/// Takes the plan's tokens up: hidden states after the final norm of the last `wanted` of each row.
torch::Tensor Model::advance(const StepPlan& plan, const std::vector<int64_t>& wanted,
                             KvCache& cache) const {
  std::vector<int64_t> places;
  for (const auto& span : plan.spans) {
    const int64_t count = wanted[span.row];
    TORCH_CHECK_VALUE(count >= 0 && count <= span.length, "[step] expected up to ", span.length,
                      " states of row ", span.row, ", got ", count);
    for (int64_t i = span.length - count; i < span.length; ++i) places.push_back(span.begin + i);
  }
  torch::Tensor h = embed(plan.ids);
  torch::Tensor some;  // undefined where all are wanted
  if (std::cmp_less(places.size(), h.size(0))) some = at::tensor(places, at::kLong).to(device());
  std::vector<int64_t> tokens(static_cast<size_t>(cache.batch()), 0);
  for (const auto& span : plan.spans) tokens[span.row] = span.length;
  cache.make_room(tokens);
  h = step_blocks(std::move(h), plan, cache, some);
  for (const auto& span : plan.spans) cache.advance(span.row, span.length);
  return final_norm(h);
}

torch::Tensor Model::step(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                          KvCache& cache) const {
  const at::NoGradGuard no_grad;
  const StepPlan plan = plan_step(ids, lengths, cache);
  if (plan.spans.empty()) return at::zeros({cache.batch(), config_.vocab_size}, like_.options());
  const std::vector<int64_t> last(lengths.size(), 1);
  const torch::Tensor scores = logits(advance(plan, last, cache));
  if (std::cmp_equal(plan.spans.size(), cache.batch())) return scores;
  std::vector<int64_t> rows;
  for (const auto& span : plan.spans) rows.push_back(span.row);
  return at::zeros({cache.batch(), config_.vocab_size}, scores.options())
      .index_copy_(0, at::tensor(rows, torch::kInt64).to(device()), scores);
}

torch::Tensor Model::step_states(const torch::Tensor& ids, const std::vector<int64_t>& lengths,
                                 const std::vector<int64_t>& wanted, KvCache& cache) const {
  const at::NoGradGuard no_grad;
  TORCH_CHECK_VALUE(wanted.size() == lengths.size(), "[step] expected ", lengths.size(),
                    " numbers of wanted states, got ", wanted.size());
  const StepPlan plan = plan_step(ids, lengths, cache);
  if (plan.spans.empty()) return at::zeros({0, config_.hidden_size}, like_.options());
  return advance(plan, wanted, cache);
}

KvCache Model::make_cache(int64_t batch, int64_t capacity, std::optional<int64_t> blocks) const {
  return KvCache(config_, batch, capacity, dtype(), device(),
                 {.type = cache_type_, .blocks = blocks});
}

const Block& Model::block(int64_t index) const {
  TORCH_CHECK_VALUE(index >= 0 && index < num_blocks(), "[model] expected a block in [0, ",
                    num_blocks(), "), got ", index);
  return blocks_[index];
}

Block& Model::block(int64_t index) {
  engine_ = nullptr;  // it would go on with what the block was
  return const_cast<Block&>(std::as_const(*this).block(index));
}

RopeTable Model::rope(int64_t t) const { return rope_table(config_, t, device()); }

std::vector<NamedTensor> Model::output_parameters() const { return of_the_vocabulary(*output_); }

std::vector<NamedTensor> Model::parameters() const {
  std::vector<NamedTensor> all;
  if (embedding_ != nullptr) all = of_the_vocabulary(*embedding_);
  for (const Block& block : blocks_) {
    for (NamedTensor& parameter : block.parameters()) all.push_back(std::move(parameter));
  }
  if (norm_.defined()) all.push_back({"model.norm.weight", norm_});
  if (output_ != nullptr && output_ != embedding_) {
    for (NamedTensor& parameter : output_parameters()) all.push_back(std::move(parameter));
  }
  return all;
}

std::vector<NamedTensor> Model::tensors() const {
  std::vector<NamedTensor> all = parameters();
  std::set<std::string> names;
  for (const NamedTensor& parameter : all) names.insert(parameter.name);
  const auto add = [&](const Projection& projection) {
    for (NamedTensor& tensor : projection.tensors()) {
      if (names.insert(tensor.name).second) all.push_back(std::move(tensor));
    }
  };
  if (embedding_ != nullptr) add(*embedding_);
  for (const Block& block : blocks_) {
    for (const Group group : block.groups()) add(*block.projection(group));
  }
  if (output_ != nullptr) add(*output_);
  return all;
}

int64_t Model::bytes() const {
  int64_t bytes = bytes_after_embedding([](Group /*all*/) { return 1.0; });
  if (embedding_ != nullptr && output_ != embedding_) bytes += bytes_of(*embedding_);
  return bytes;
}

int64_t Model::bytes_of_step() const {
  const int64_t all =
      bytes_after_embedding([&](Group group) { return config_.share_of_tokens(group.expert); });
  return search_ == nullptr ? all : all - search_->bytes_saved();
}

int64_t Model::bytes_after_embedding(const std::function<double(Group)>& share) const {
  int64_t bytes = norm_.defined() ? static_cast<int64_t>(norm_.nbytes()) : 0;
  for (const Block& block : blocks_) {
    bytes += bytes_of(block.parameters());
    for (const Group group : block.groups()) {
      const Projection& projection = *block.projection(group);
      bytes += static_cast<int64_t>(share(group) * static_cast<double>(bytes_of(projection))) -
               bytes_of(projection.parameters());
    }
  }
  return output_ == nullptr ? bytes : bytes + bytes_of(*output_);
}

}  // namespace schmidt::model
