#include "schmidt/model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/dtype_names.h"
#include "schmidt/model/families.h"
#include "schmidt/model/rope_table.h"

namespace schmidt::model {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// Far above any real model, far below where products of two of them overflow.
constexpr int64_t kMaxSize = int64_t{1} << 28;
constexpr int64_t kMaxLayers = 10'000;
constexpr int64_t kMaxExperts = 1'000'000;  // of all layers
constexpr int64_t kMaxPositions = int64_t{1} << 40;

// One object of a config, read key by key with messages that name the key.
class Fields {
 public:
  Fields(const json& object, const fs::path& path, std::string prefix = "")
      : object_(object), path_(path), prefix_(std::move(prefix)) {
    if (!object.is_object()) fail("", fmt::format("expected an object, got {}", shown(object)));
  }

  // An explicit null means the same as no key, in every config we know.
  const json* find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }
  bool contains(const char* key) const { return object_.contains(key); }

  int64_t integer(const char* key, int64_t low, int64_t high) const {
    const json* value = find(key);
    if (value == nullptr) fail(key, "expected an integer, got nothing");
    return checked(key, *value, low, high);
  }
  int64_t integer(const char* key, int64_t low, int64_t high, int64_t fallback) const {
    return find(key) == nullptr ? fallback : integer(key, low, high);
  }

  double positive(const char* key) const {
    const json* value = find(key);
    if (value == nullptr) fail(key, "expected a number above 0, got nothing");
    const double number = value->is_number() ? value->get<double>() : -1.0;
    if (!(number > 0.0) || !std::isfinite(number)) {
      fail(key, fmt::format("expected a number above 0, got {}", shown(*value)));
    }
    return number;
  }
  double positive(const char* key, double fallback) const {
    return find(key) == nullptr ? fallback : positive(key);
  }

  // 0 means the same as no key, where a config may turn a setting off by it.
  double positive_unless_zero(const char* key, double fallback) const {
    const json* value = find(key);
    return value != nullptr && *value == 0 ? fallback : positive(key, fallback);
  }

  bool boolean(const char* key, bool fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) {
      fail(key, fmt::format("expected true or false, got {}", shown(*value)));
    }
    return value->get<bool>();
  }

  std::string text(const char* key, const std::string& fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) fail(key, fmt::format("expected a string, got {}", shown(*value)));
    return value->get<std::string>();
  }

  int64_t checked(const char* key, const json& value, int64_t low, int64_t high) const {
    const bool fits =
        value.is_number_unsigned()
            ? value.get<uint64_t>() <= static_cast<uint64_t>(high) && value.get<int64_t>() >= low
            : value.is_number_integer() && value.get<int64_t>() >= low &&
                  value.get<int64_t>() <= high;
    if (!fits) {
      fail(key, fmt::format("expected an integer in [{}, {}], got {}", low, high, shown(value)));
    }
    return value.get<int64_t>();
  }

  [[noreturn]] void fail(std::string_view key, std::string_view reason) const {
    std::string where = prefix_ + std::string(key);
    if (where.ends_with('.')) where.pop_back();  // of the object itself
    throw FormatError(path_, where, reason);
  }

  static std::string shown(const json& value) {
    const std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
    return text.size() <= 60 ? text : fmt::format("{:.57}...", text);
  }

 private:
  const json& object_;
  const fs::path& path_;
  std::string prefix_;
};

template <typename Table>
std::string known_names(const Table& table) {
  std::string names;
  for (const auto& [name, unused] : table) names += (names.empty() ? "" : ", ") + std::string(name);
  return names;
}

template <typename Value, size_t size>
Value choose(const std::array<std::pair<std::string_view, Value>, size>& table,
             const Fields& fields, const char* key, const std::string& name) {
  for (const auto& [known, value] : table) {
    if (known == name) return value;
  }
  fields.fail(key, fmt::format("expected one of {}, got \"{}\"", known_names(table), name));
}

using RopeScalingName = std::pair<std::string_view, RopeScaling>;

constexpr std::array<RopeScalingName, 5> kRopeScalings = {{
    {"default", RopeScaling::kNone},
    {"linear", RopeScaling::kLinear},
    {"llama3", RopeScaling::kLlama3},
    {"yarn", RopeScaling::kYarn},
    {"dynamic", RopeScaling::kDynamic},
}};

// Of families with longrope; the others are its names in older configs.
constexpr std::array<RopeScalingName, 4> kLongRopeScalings = {{
    {"default", RopeScaling::kNone},
    {"longrope", RopeScaling::kLongRope},
    {"su", RopeScaling::kLongRope},
    {"yarn", RopeScaling::kLongRope},
}};

constexpr std::array<std::pair<std::string_view, Activation>, 3> kActivations = {{
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"gelu_pytorch_tanh", Activation::kGeluTanh},
}};

const Family& find_family(const Fields& fields) {
  const std::string name = fields.text("model_type", "");
  std::string known;
  for (const Family& family : kFamilies) {
    if (family.model_type == name) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  }
  fields.fail("model_type", fmt::format("expected one of {}, got \"{}\"", known, name));
}

bool has_trait(Trait trait, const Fields& fields, const char* key) {
  return trait == Trait::kConfigured ? fields.boolean(key, false) : trait == Trait::kAlways;
}

void parse_llama3(const Fields& fields, RopeConfig& rope) {
  rope.low_freq_factor = fields.positive("low_freq_factor");
  rope.high_freq_factor = fields.positive("high_freq_factor");
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    fields.fail("high_freq_factor", fmt::format("expected more than low_freq_factor {}, got {}",
                                                rope.low_freq_factor, rope.high_freq_factor));
  }
}

// How much YaRN sharpens attention for contexts `factor` times as long.
double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

void parse_yarn(const Fields& fields, RopeConfig& rope) {
  if (rope.theta <= 1.0) {
    fields.fail("rope_theta", fmt::format("expected more than 1 with yarn, got {}", rope.theta));
  }
  rope.beta_fast = fields.positive_unless_zero("beta_fast", rope.beta_fast);
  rope.beta_slow = fields.positive_unless_zero("beta_slow", rope.beta_slow);
  if (rope.beta_fast < rope.beta_slow) {
    fields.fail("beta_fast", fmt::format("expected beta_slow {} or more, got {}", rope.beta_slow,
                                         rope.beta_fast));
  }
  rope.truncate = fields.boolean("truncate", rope.truncate);
  const double mscale = fields.positive_unless_zero("mscale", 0.0);
  const double mscale_all_dim = fields.positive_unless_zero("mscale_all_dim", 0.0);
  const bool both = mscale > 0.0 && mscale_all_dim > 0.0;
  rope.attention_factor =
      fields.positive("attention_factor", both ? yarn_mscale(rope.factor, mscale) /
                                                     yarn_mscale(rope.factor, mscale_all_dim)
                                               : yarn_mscale(rope.factor, 1.0));
}

// One factor for each pair that turns.
std::vector<double> parse_factors(const Fields& fields, const char* key, int64_t pairs) {
  const json* value = fields.find(key);
  const auto fail = [&] {
    fields.fail(key, fmt::format("expected an array of {} numbers above 0, got {}", pairs,
                                 value == nullptr ? "nothing" : Fields::shown(*value)));
  };
  if (value == nullptr || !value->is_array() || std::cmp_not_equal(value->size(), pairs)) fail();
  std::vector<double> factors;
  for (const json& factor : *value) {
    if (!factor.is_number() || !(factor.get<double>() > 0.0)) fail();
    factors.push_back(factor.get<double>());
  }
  return factors;
}

void parse_long_rope(const Fields& fields, RopeConfig& rope, int64_t head_dim) {
  const int64_t pairs = rotary_dim(rope, head_dim) / 2;
  rope.short_factors = parse_factors(fields, "short_factor", pairs);
  rope.long_factors = parse_factors(fields, "long_factor", pairs);
  const auto original = static_cast<double>(rope.original_max_positions);
  const bool stretches = rope.factor > 1.0 && original > 1.0;
  rope.attention_factor = fields.positive(
      "attention_factor",
      stretches ? std::sqrt(1.0 + std::log(rope.factor) / std::log(original)) : 1.0);
}

// `partial_rotary_factor` stands in the block or, in older configs, outside it.
double parse_partial_factor(const Fields& top, const Fields& fields, const Family& family,
                            int64_t head_dim) {
  constexpr const char* kKey = "partial_rotary_factor";
  const bool outside = family.partial_rotation && fields.find(kKey) == nullptr;
  const Fields& holder = outside ? top : fields;
  const double factor = holder.positive(kKey, 1.0);
  if (!family.partial_rotation && factor != 1.0) {
    fields.fail(kKey, "expected 1, the only one supported");
  }
  const int64_t turning = rotary_dim({.partial_factor = std::min(factor, 2.0)}, head_dim);
  if (turning < 2 || turning > head_dim || turning % 2 != 0) {
    holder.fail(kKey, fmt::format("expected a factor that leaves an even number of a head's {} "
                                  "values, got {}",
                                  head_dim, factor));
  }
  return factor;
}

// transformers 5 keeps theta and scaling in `rope_parameters`; 4 has `rope_theta`
// beside a `rope_scaling`, whose own type was first called `type`, then `rope_type`.
RopeConfig parse_scaling(const Fields& top, const Fields& fields, const Family& family,
                         RopeConfig rope, int64_t max_positions, int64_t head_dim) {
  rope.theta = fields.positive("rope_theta", rope.theta);
  const std::string type = fields.text("rope_type", fields.text("type", "default"));
  rope.scaling = family.long_rope ? choose(kLongRopeScalings, fields, "rope_type", type)
                                  : choose(kRopeScalings, fields, "rope_type", type);
  rope.partial_factor = parse_partial_factor(top, fields, family, head_dim);
  if (rope.scaling == RopeScaling::kNone) return rope;
  // As in transformers 5: a value outside the block goes before one in it, and `dynamic` takes
  // the model's context for the original.
  const char* const original_key = "original_max_position_embeddings";
  const Fields& original_fields = top.find(original_key) != nullptr ? top : fields;
  rope.original_max_positions =
      rope.scaling == RopeScaling::kDynamic
          ? max_positions
          : original_fields.integer(original_key, 1, kMaxPositions, max_positions);
  const double stretch =
      static_cast<double>(max_positions) / static_cast<double>(rope.original_max_positions);
  const bool may_derive =
      rope.scaling == RopeScaling::kLongRope ||
      (rope.scaling == RopeScaling::kYarn && original_fields.find(original_key) != nullptr);
  rope.factor = may_derive ? fields.positive("factor", stretch) : fields.positive("factor");
  if (rope.scaling == RopeScaling::kLlama3) parse_llama3(fields, rope);
  if (rope.scaling == RopeScaling::kYarn) parse_yarn(fields, rope);
  if (rope.scaling == RopeScaling::kLongRope) parse_long_rope(fields, rope, head_dim);
  return rope;
}

// With a base for the layers with a window transformers 5 has a block for each of the two kinds of
// layers; 4 has `rope_local_base_freq`.
RopeConfig parse_rope(const Fields& top, const json& config, const fs::path& path,
                      const Family& family, int64_t max_positions, int64_t head_dim) {
  RopeConfig rope;
  rope.theta = top.positive("rope_theta", family.default_theta);
  const bool local = family.default_local_theta > 0.0;
  if (local) {
    rope.local_theta = top.positive("rope_local_base_freq", family.default_local_theta);
  }
  const json none = json::object();
  const auto block = [&](const json* parent, const char* key) -> const json& {
    const auto it = parent->find(key);
    return it == parent->end() || it->is_null() ? none : *it;
  };
  // transformers 5 takes what stands in the older place where a user has put it beside its own.
  const bool is_new =
      top.find("rope_parameters") != nullptr && block(&config, "rope_scaling").empty();
  const char* key = is_new ? "rope_parameters" : "rope_scaling";
  const json& outer = block(&config, key);
  const std::string prefix = std::string(key) + ".";
  if (!local || key == std::string_view("rope_scaling")) {
    return parse_scaling(top, Fields(outer, path, prefix), family, rope, max_positions, head_dim);
  }
  Fields(outer, path, prefix);  // an object
  const Fields sliding(block(&outer, "sliding_attention"), path, prefix + "sliding_attention.");
  rope.local_theta = sliding.positive("rope_theta", *rope.local_theta);
  if (const std::string type = sliding.text("rope_type", "default"); type != "default") {
    sliding.fail("rope_type", fmt::format("expected default, got \"{}\"", type));
  }
  const Fields full(block(&outer, "full_attention"), path, prefix + "full_attention.");
  return parse_scaling(top, full, family, rope, max_positions, head_dim);
}

// The context of a model whose scaling is made for more positions than the config names.
int64_t stretched_context(const RopeConfig& rope, int64_t max_positions) {
  if (rope.scaling != RopeScaling::kYarn && rope.scaling != RopeScaling::kDynamic) {
    return max_positions;
  }
  const double stretched = rope.factor * static_cast<double>(rope.original_max_positions);
  return std::max(max_positions,
                  static_cast<int64_t>(std::min(stretched, static_cast<double>(kMaxPositions))));
}

// Layers of Qwen at or above `max_window_layers` slide, and all of Gemma but every n-th, unless
// `layer_types` says which.
std::vector<bool> sliding_layers(const Fields& fields, const Family& family, int64_t num_layers) {
  std::vector<bool> slides(num_layers, false);
  const json* types = fields.find("layer_types");
  if (types == nullptr && family.window == WindowRule::kPattern) {
    const int64_t n =
        fields.integer("sliding_window_pattern", 1, kMaxLayers, family.default_pattern);
    for (int64_t i = 0; i < num_layers; ++i) slides[i] = (i + 1) % n != 0;
    return slides;
  }
  if (types == nullptr && family.experts) {  // which slide is another rule's matter there
    fields.fail("layer_types", "expected an array of names beside use_sliding_window, got nothing");
  }
  if (types == nullptr) {
    const int64_t first = fields.integer("max_window_layers", 0, kMaxLayers, 28);
    for (int64_t i = first; i < num_layers; ++i) slides[i] = true;
    return slides;
  }
  if (!types->is_array() || static_cast<int64_t>(types->size()) != num_layers) {
    fields.fail("layer_types", fmt::format("expected an array of {} names, got {}", num_layers,
                                           Fields::shown(*types)));
  }
  for (int64_t i = 0; i < num_layers; ++i) {
    const json& type = (*types)[i];
    slides[i] = type == "sliding_attention";
    if (!slides[i] && type != "full_attention") {
      fields.fail("layer_types", fmt::format("expected full_attention or sliding_attention, got {}",
                                             Fields::shown(type)));
    }
  }
  return slides;
}

std::vector<std::optional<int64_t>> parse_windows(const Fields& fields, const Family& family,
                                                  int64_t num_layers) {
  std::vector<std::optional<int64_t>> windows(num_layers);
  const bool off =
      family.window == WindowRule::kNone ||
      ((family.window == WindowRule::kLayerTypes || family.window == WindowRule::kAllWhereUsed) &&
       !fields.boolean("use_sliding_window", false));
  // Here null is a statement, not an absence: no window.
  const bool absent = fields.find("sliding_window") == nullptr;
  const bool none = absent && (fields.contains("sliding_window") || family.default_window == 0);
  if (none && family.window == WindowRule::kPattern) {
    fields.fail("sliding_window", "expected an integer, got null");
  }
  if (off || none) return windows;
  const int64_t window = fields.integer("sliding_window", 1, kMaxPositions, family.default_window);
  const bool all = family.window == WindowRule::kAll || family.window == WindowRule::kAllWhereUsed;
  const std::vector<bool> slides =
      all ? std::vector<bool>(num_layers, true) : sliding_layers(fields, family, num_layers);
  for (int64_t i = 0; i < num_layers; ++i) {
    if (slides[i]) windows[i] = window;
  }
  return windows;
}

// An explicit null is a statement here too: no cap.
std::optional<double> parse_softcap(const Fields& fields, const char* key, double fallback) {
  if (fields.find(key) != nullptr) return fields.positive(key);
  if (fields.contains(key) || fallback == 0.0) return std::nullopt;
  return fallback;
}

void parse_scales(const Fields& fields, const Family& family, ModelConfig& c) {
  if (family.multipliers) {
    c.embedding_scale = fields.positive("embedding_multiplier", 1.0);
    c.attention_scale = fields.positive("attention_multiplier", 1.0);
    c.residual_scale = fields.positive("residual_multiplier", 1.0);
    c.logit_scale = 1.0 / fields.positive("logits_scaling", 1.0);
  }
  if (family.scaled_embedding) {
    c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  }
  if (family.default_query_scale > 0) {
    c.attention_scale =
        1.0 / std::sqrt(fields.positive("query_pre_attn_scalar",
                                        static_cast<double>(family.default_query_scale)));
  }
  if (family.softcaps) {
    c.attention_softcap =
        parse_softcap(fields, "attn_logit_softcapping", family.default_attention_softcap);
    c.logit_softcap =
        parse_softcap(fields, "final_logit_softcapping", family.default_logit_softcap);
  }
}

// Every n-th block has a mixture of experts but those named in `mlp_only_layers`.
std::vector<bool> mixing_blocks(const Fields& fields, int64_t num_layers) {
  const int64_t n = fields.integer("decoder_sparse_step", 1, kMaxLayers, 1);
  std::vector<bool> mixes(num_layers);
  for (int64_t i = 0; i < num_layers; ++i) mixes[i] = (i + 1) % n == 0;
  if (const json* single = fields.find("mlp_only_layers")) {
    if (!single->is_array()) {
      fields.fail("mlp_only_layers",
                  fmt::format("expected an array of layers, got {}", Fields::shown(*single)));
    }
    for (const json& layer : *single) {
      mixes[fields.checked("mlp_only_layers", layer, 0, num_layers - 1)] = false;
    }
  }
  return mixes;
}

std::optional<ExpertsConfig> parse_experts(const Fields& fields, const Family& family,
                                           const ModelConfig& c) {
  if (!family.experts) return std::nullopt;
  const ExpertDefaults& defaults = *family.experts;
  const bool mixtral = defaults.names == ExpertNames::kMixtral;
  // Configs of transformers 5 may have either name.
  const char* const count =
      fields.find("num_local_experts") != nullptr || mixtral ? "num_local_experts" : "num_experts";
  ExpertsConfig experts{.names = defaults.names};
  experts.count = fields.integer(count, 1, kMaxExperts / c.num_layers, defaults.count);
  experts.active = fields.integer("num_experts_per_tok", 1, experts.count,
                                  std::min(defaults.active, experts.count));
  experts.intermediate_size =
      defaults.intermediate_size == 0
          ? c.intermediate_size
          : fields.integer("moe_intermediate_size", 1, kMaxSize, defaults.intermediate_size);
  experts.normalized = mixtral || fields.boolean("norm_topk_prob", false);
  if (defaults.shared_size > 0) {
    experts.shared_size =
        fields.integer("shared_expert_intermediate_size", 1, kMaxSize, defaults.shared_size);
  }
  experts.blocks =
      mixtral ? std::vector<bool>(c.num_layers, true) : mixing_blocks(fields, c.num_layers);
  return experts;
}

std::vector<int64_t> parse_ids(const Fields& fields, const char* key) {
  const json* value = fields.find(key);
  if (value == nullptr) return {};
  std::vector<int64_t> ids;
  for (const json& id : value->is_array() ? *value : json::array({*value})) {
    ids.push_back(fields.checked(key, id, -1, kMaxSize));
  }
  std::erase(ids, -1);  // some configs write "none" so
  return ids;
}

/// `mlp_sizes` of compression_config, where MLPs are pruned.
void parse_mlp_sizes(const Fields& compression, ModelConfig& c) {
  const json* sizes = compression.find("mlp_sizes");
  if (sizes == nullptr) return;
  if (!sizes->is_array() || std::cmp_not_equal(sizes->size(), c.num_layers) || c.experts) {
    compression.fail("mlp_sizes",
                     fmt::format("expected {}, got {}",
                                 c.experts ? "none beside a mixture of experts"
                                           : fmt::format("a list of {} sizes", c.num_layers),
                                 Fields::shown(*sizes)));
  }
  for (size_t block = 0; block < sizes->size(); ++block) {
    c.mlp_sizes[block] = compression.checked("mlp_sizes", (*sizes)[block], 1, c.intermediate_size);
  }
}

}  // namespace

ModelConfig parse_config(const json& config, const fs::path& path) {
  const Fields fields(config, path);
  const Family& family = find_family(fields);

  ModelConfig c;
  c.model_type = family.model_type;
  c.vocab_size = fields.integer("vocab_size", 1, kMaxSize);
  c.hidden_size = fields.integer("hidden_size", 1, kMaxSize);
  c.intermediate_size = fields.integer("intermediate_size", 1, kMaxSize);
  c.num_layers = fields.integer("num_hidden_layers", 1, kMaxLayers);
  c.num_heads = fields.integer("num_attention_heads", 1, kMaxSize);
  c.num_kv_heads = fields.integer("num_key_value_heads", 1, kMaxSize, c.num_heads);
  c.max_positions = fields.integer("max_position_embeddings", 1, kMaxPositions);
  c.rms_norm_eps = fields.positive("rms_norm_eps", family.default_eps);
  c.tie_embeddings = fields.boolean("tie_word_embeddings", family.tied_by_default);
  c.attention_bias = has_trait(family.qkv_bias, fields, "attention_bias");
  c.output_bias = has_trait(family.output_bias, fields, "attention_bias");
  c.mlp_bias = has_trait(family.mlp_bias, fields, "mlp_bias");
  c.qk_norm = family.qk_norm;
  c.norms = family.norms;
  c.norm_offset = family.norm_offset;
  c.activation = family.activation;
  parse_scales(fields, family, c);

  if (c.num_heads % c.num_kv_heads != 0) {
    fields.fail("num_key_value_heads", fmt::format("expected a divisor of num_attention_heads {}, "
                                                   "got {}",
                                                   c.num_heads, c.num_kv_heads));
  }
  if (fields.find("head_dim") == nullptr && family.default_head_dim == 0) {
    if (c.hidden_size % c.num_heads != 0) {
      fields.fail("num_attention_heads", fmt::format("expected a divisor of hidden_size {}, got {}",
                                                     c.hidden_size, c.num_heads));
    }
    c.head_dim = c.hidden_size / c.num_heads;
  } else {
    c.head_dim = fields.integer("head_dim", 1, kMaxSize, family.default_head_dim);
  }
  if (c.head_dim % 2 != 0) {
    fields.fail("head_dim", fmt::format("expected an even number, got {}", c.head_dim));
  }
  if (c.num_heads > kMaxSize / c.head_dim) {
    fields.fail("head_dim", fmt::format("expected num_attention_heads * head_dim up to {}, got "
                                        "{} * {}",
                                        kMaxSize, c.num_heads, c.head_dim));
  }
  const bool silu = family.activation == Activation::kSilu;
  const std::string own = silu ? "silu" : "gelu_pytorch_tanh";
  for (const char* key : {"hidden_act", "hidden_activation"}) {
    const std::string activation = fields.text(key, own);
    const auto* const known = std::ranges::find(kActivations, std::string_view(activation),
                                                &decltype(kActivations)::value_type::first);
    if (known == kActivations.end() || known->second != family.activation) {
      fields.fail(key, fmt::format("expected {}, got \"{}\"", own, activation));
    }
  }
  if (family.window == WindowRule::kPattern &&
      fields.boolean("use_bidirectional_attention", false)) {
    fields.fail("use_bidirectional_attention", "expected false: text is read in one direction");
  }

  c.rope = parse_rope(fields, config, path, family, c.max_positions, c.head_dim);
  if (c.rope.scaling == RopeScaling::kDynamic && c.head_dim <= 2) {
    fields.fail("head_dim",
                fmt::format("expected more than 2 with dynamic scaling, got {}", c.head_dim));
  }
  c.max_positions = stretched_context(c.rope, c.max_positions);
  c.windows = parse_windows(fields, family, c.num_layers);
  c.experts = parse_experts(fields, family, c);
  c.mlp_sizes.assign(static_cast<size_t>(c.num_layers), c.intermediate_size);
  const std::vector<int64_t> bos = parse_ids(fields, "bos_token_id");
  if (!bos.empty()) c.bos_id = bos.front();
  c.eos_ids = parse_ids(fields, "eos_token_id");

  const std::string dtype = fields.text("dtype", fields.text("torch_dtype", ""));
  if (!dtype.empty()) c.dtype = choose(io::kDtypeNames, fields, "dtype", dtype);

  if (fields.find("compression_config") != nullptr) {
    const Fields compression(config.at("compression_config"), path, "compression_config.");
    compression.integer("version", 1, 1);
    parse_mlp_sizes(compression, c);
    if (const json* layers = compression.find("layers")) {
      if (!layers->is_object()) {
        compression.fail("layers",
                         fmt::format("expected an object, got {}", Fields::shown(*layers)));
      }
      c.compressed_layers = *layers;
    }
  }
  return c;
}

}  // namespace schmidt::model
