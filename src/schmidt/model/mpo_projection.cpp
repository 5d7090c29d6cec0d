#include "schmidt/model/mpo_projection.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"

namespace schmidt::model {
namespace {

using nlohmann::json;

// The form of one layer, read with messages that name the layer and the key.
class Form {
 public:
  Form(const StoredLayer& layer, const Weights& weights) : layer_(layer), weights_(weights) {}

  std::vector<int64_t> sizes(const char* key) const {
    const auto it = layer_.form.find(key);
    if (it == layer_.form.end() || !it->is_array()) fail(key, "expected an array of sizes");
    std::vector<int64_t> values;
    for (const json& item : *it) {
      const bool fits = item.is_number_unsigned()
                            ? item.get<uint64_t>() >= 1 && item.get<uint64_t>() <= kMaxSize
                            : item.is_number_integer() && item.get<int64_t>() >= 1 &&
                                  std::cmp_less_equal(item.get<int64_t>(), kMaxSize);
      if (!fits) fail(key, fmt::format("expected sizes in [1, {}]", kMaxSize));
      values.push_back(item.get<int64_t>());
    }
    return values;
  }

  void check_product(const char* key, const std::vector<int64_t>& dims, int64_t expected) const {
    int64_t product = 1;
    for (const int64_t dim : dims) {
      // Beyond `expected` the product is wrong already: stop before it overflows.
      product = product > expected ? product : product * dim;
    }
    if (product != expected) {
      fail(key,
           fmt::format("expected a product of {}, found [{}]", expected, fmt::join(dims, ", ")));
    }
  }

  [[noreturn]] void fail(const char* key, const std::string& reason) const {
    throw FormatError(weights_.path(),
                      fmt::format("compression_config.layers.{}.{}", layer_.spec.name, key),
                      reason);
  }

 private:
  static constexpr uint64_t kMaxSize = uint64_t{1} << 28;
  const StoredLayer& layer_;
  const Weights& weights_;
};

ProjectionPtr load_one(const StoredLayer& layer, const Weights& weights) {
  const LayerSpec& spec = layer.spec;
  const Form form(layer, weights);
  const std::vector<int64_t> out_dims = form.sizes("out_dims");
  const std::vector<int64_t> in_dims = form.sizes("in_dims");
  const std::vector<int64_t> bonds = form.sizes("bonds");
  form.check_product("out_dims", out_dims, spec.out_features);
  form.check_product("in_dims", in_dims, spec.in_features);
  const size_t sites = out_dims.size();
  if (sites == 0) form.fail("out_dims", "expected one site or more, found none");
  if (in_dims.size() != sites) {
    form.fail("in_dims", fmt::format("expected {} sites, found {}", sites, in_dims.size()));
  }
  if (bonds.size() != sites - 1) {
    form.fail("bonds", fmt::format("expected {} bonds, found {}", sites - 1, bonds.size()));
  }
  std::vector<torch::Tensor> cores;
  for (size_t k = 0; k < sites; ++k) {
    const int64_t left = k == 0 ? 1 : bonds[k - 1];
    const int64_t right = k + 1 == sites ? 1 : bonds[k];
    cores.push_back(weights.read(spec.name + ".cores." + std::to_string(k),
                                 {left, out_dims[k], in_dims[k], right}));
  }
  std::optional<torch::Tensor> bias;
  if (spec.bias) bias = weights.read(spec.name + ".bias", {spec.out_features});
  return std::make_shared<MpoProjection>(spec.name, tn::Mpo(std::move(cores)), std::move(bias));
}

}  // namespace

MpoProjection::MpoProjection(std::string name, tn::Mpo mpo, std::optional<torch::Tensor> bias)
    : name_(std::move(name)), mpo_(std::move(mpo)), bias_(std::move(bias)) {
  TORCH_CHECK_VALUE(!bias_ || (bias_->dim() == 1 && bias_->size(0) == mpo_.rows()),
                    "[mpo] expected a bias of ", mpo_.rows(), " values for ", name_);
}

torch::Tensor MpoProjection::apply(const torch::Tensor& x) const {
  // Many rows of an MPO with large bonds are cheaper through its matrix, made for the call.
  const torch::Tensor y = mpo_.apply(x, {.form_matrix = true});
  return bias_ ? y + *bias_ : y;
}

std::vector<NamedTensor> MpoProjection::parameters() const {
  std::vector<NamedTensor> all;
  for (size_t k = 0; k < mpo_.cores().size(); ++k) {
    all.push_back({name_ + ".cores." + std::to_string(k), mpo_.cores()[k]});
  }
  if (bias_) all.push_back({name_ + ".bias", *bias_});
  return all;
}

ProjectionPtr load_mpo(std::span<const StoredLayer> layers, const Weights& weights) {
  std::vector<ProjectionPtr> parts;
  for (const StoredLayer& layer : layers) parts.push_back(load_one(layer, weights));
  return concatenate(std::move(parts));
}

}  // namespace schmidt::model
