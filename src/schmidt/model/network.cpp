#include "schmidt/model/network.h"

#include <functional>
#include <numeric>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/format_error.h"
#include "schmidt/tn/canonical.h"

namespace schmidt::model {
namespace {

struct Sites {
  tn::SiteShape shape;
  std::vector<int64_t> bonds;

  int64_t left(size_t k) const { return k == 0 ? 1 : bonds[k - 1]; }
  int64_t right(size_t k) const { return k < bonds.size() ? bonds[k] : 1; }
  std::vector<int64_t> core(size_t k) const {
    return {left(k), shape.out_dims[k], shape.in_dims[k], right(k)};
  }
};

int64_t product(const std::vector<int64_t>& dims) {
  return std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
}

std::string joined(const std::vector<NetworkShape>& networks,
                   std::string (*text)(const NetworkShape&)) {
  std::vector<std::string> terms;
  for (const NetworkShape& network : networks) terms.push_back(text(network));
  return fmt::format("{}", fmt::join(terms, " + "));
}

std::string core_name(const std::string& name, size_t k) {
  return fmt::format("{}.cores.{}", name, k);
}
std::string pivots_name(const std::string& name, size_t k) {
  return fmt::format("{}.pivots.{}", name, k);
}

void check_product(const io::JsonRecord& form, const char* key, const std::vector<int64_t>& dims,
                   int64_t expected) {
  int64_t product = 1;
  for (const int64_t dim : dims) {
    // Beyond `expected` the product is wrong already: stop before it overflows.
    product = product > expected ? product : product * dim;
  }
  if (product != expected) {
    form.fail(key,
              fmt::format("expected a product of {}, found [{}]", expected, fmt::join(dims, ", ")));
  }
}

Sites read_sites(const io::JsonRecord& form, int64_t m, int64_t n) {
  Sites s{{form.sizes("out_dims"), form.sizes("in_dims")}, form.sizes("bonds")};
  check_product(form, "out_dims", s.shape.out_dims, m);
  check_product(form, "in_dims", s.shape.in_dims, n);
  const size_t sites = s.shape.out_dims.size();
  if (sites == 0) form.fail("out_dims", "expected one site or more, found none");
  if (s.shape.in_dims.size() != sites) {
    form.fail("in_dims", fmt::format("expected {} sites, found {}", sites, s.shape.in_dims.size()));
  }
  if (s.bonds.size() != sites - 1) {
    form.fail("bonds", fmt::format("expected {} bonds, found {}", sites - 1, s.bonds.size()));
  }
  return s;
}

tn::Mpo load_free(const Sites& sites, const std::string& name, const Weights& weights) {
  std::vector<torch::Tensor> cores;
  for (size_t k = 0; k < sites.shape.out_dims.size(); ++k) {
    cores.push_back(weights.read(core_name(name, k), sites.core(k)));
  }
  return tn::Mpo(std::move(cores));
}

// int64 [r], ascending rows of `rows`.
torch::Tensor load_pivots(const std::string& name, int64_t r, int64_t rows,
                          const Weights& weights) {
  const torch::Tensor pivots = weights.read_indices(name, {r});
  if (pivots.is_meta()) return pivots;
  const int64_t* const p = pivots.const_data_ptr<int64_t>();
  for (int64_t j = 0; j < r; ++j) {
    if (p[j] < 0 || p[j] >= rows) {
      throw FormatError(weights.path(), name,
                        fmt::format("expected rows in [0, {}), found {}", rows, p[j]));
    }
    if (j > 0 && p[j] <= p[j - 1]) {
      throw FormatError(weights.path(), name,
                        fmt::format("expected ascending rows, found {} after {}", p[j], p[j - 1]));
    }
  }
  return pivots;
}

tn::GaugeFixed load_fixed(const io::JsonRecord& form, const Sites& sites, const std::string& name,
                          const Weights& weights) {
  tn::GaugeFixed fixed{sites.shape, {}, {}};
  for (size_t k = 0; k < sites.bonds.size(); ++k) {
    // No bond is beyond what its left side can carry, so the product fits.
    const int64_t rows = sites.left(k) * sites.shape.out_dims[k] * sites.shape.in_dims[k];
    const int64_t r = sites.bonds[k];
    if (r > rows) {
      form.fail("bonds", fmt::format("expected bond {} of at most {} rows, found {}", k, rows, r));
    }
    fixed.cores.push_back(weights.read(core_name(name, k), {rows - r, r}));
    fixed.pivots.push_back(load_pivots(pivots_name(name, k), r, rows, weights));
  }
  const size_t last = sites.bonds.size();
  fixed.cores.push_back(weights.read(core_name(name, last), sites.core(last)));
  return fixed;
}

const std::vector<torch::Tensor>& cores_of(const Network& network) {
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) return fixed->cores;
  return std::get<tn::Mpo>(network).cores();
}

tn::SiteShape shape_of(const Network& network) {
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) return fixed->shape;
  return std::get<tn::Mpo>(network).shape();
}

}  // namespace

Network load_network(const io::JsonRecord& form, const std::string& name, int64_t m, int64_t n,
                     const Weights& weights) {
  const Sites sites = read_sites(form, m, n);
  const std::optional<std::string> gauge = form.optional_text("gauge");
  const bool trained = weights.options().free_gauge;
  if (!gauge) {
    tn::Mpo free = load_free(sites, name, weights);
    return trained ? tn::balance(free) : free;
  }
  if (*gauge != "fixed") {
    form.fail("gauge", fmt::format("expected fixed or no such key, found {}", *gauge));
  }
  tn::GaugeFixed fixed = load_fixed(form, sites, name, weights);
  if (!trained) return fixed;
  return tn::balance(tn::free_gauge(fixed));
}

nlohmann::json network_form(const Network& network) {
  const tn::SiteShape shape = shape_of(network);
  nlohmann::json form = {{"out_dims", shape.out_dims}, {"in_dims", shape.in_dims}};
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) {
    form["bonds"] = tn::bonds(*fixed);
    form["gauge"] = "fixed";
  } else {
    form["bonds"] = std::get<tn::Mpo>(network).bonds();
  }
  return form;
}

std::vector<int64_t> matrix_shape(const NetworkShape& network) {
  return {product(network.out_dims), product(network.in_dims)};
}

std::string sites_text(const std::vector<NetworkShape>& networks) {
  return joined(networks, [](const NetworkShape& network) {
    return fmt::format("{}; {}", fmt::join(network.out_dims, " x "),
                       fmt::join(network.in_dims, " x "));
  });
}

std::string bonds_text(const std::vector<NetworkShape>& networks) {
  return joined(networks, [](const NetworkShape& network) {
    return fmt::format("{}", fmt::join(network.bonds, " "));
  });
}

NetworkShape network_shape(const io::JsonRecord& form) {
  return {form.sizes("out_dims"), form.sizes("in_dims"), form.sizes("bonds"),
          form.optional_text("gauge").has_value()};
}

StoredWeight pack_network(const std::string& name, const nlohmann::json& form,
                          const StoredWeight& weight, const PackOptions& options) {
  std::vector<torch::Tensor> cores;
  while (const NamedTensor* core = find_tensor(weight, core_name(name, cores.size()))) {
    cores.push_back(core->tensor);
  }
  const tn::Mpo mpo(std::move(cores));
  const bool fixed = options.fixed_gauge.value_or(form.contains("gauge"));
  const Network network = fixed ? Network(tn::fix_gauge(mpo)) : Network(mpo);
  return {network_form(network), in_dtype(network_tensors(name, network), options.dtype)};
}

std::vector<NamedTensor> network_tensors(const std::string& name, const Network& network) {
  std::vector<NamedTensor> all = network_cores(name, network);
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) {
    for (size_t k = 0; k < fixed->pivots.size(); ++k) {
      all.push_back({pivots_name(name, k), fixed->pivots[k].to(torch::kInt32)});
    }
  }
  return all;
}

std::vector<NamedTensor> network_cores(const std::string& name, const Network& network) {
  std::vector<NamedTensor> all;
  for (const torch::Tensor& core : cores_of(network)) {
    all.push_back({core_name(name, all.size()), core, Role::kFactor});
  }
  return all;
}

NetworkSize network_size(const Network& network) {
  const tn::SiteShape shape = shape_of(network);
  return {product(shape.out_dims), product(shape.in_dims)};
}

torch::Tensor apply_network(const Network& network, const torch::Tensor& x) {
  // Many rows of a network with large bonds are cheaper through its matrix, made for the call.
  constexpr tn::ContractionOptions kOptions = {.form_matrix = true};
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) {
    return tn::apply(*fixed, x, kOptions);
  }
  return std::get<tn::Mpo>(network).apply(x, kOptions);
}

torch::Tensor network_matrix(const Network& network) {
  if (const auto* fixed = std::get_if<tn::GaugeFixed>(&network)) {
    return tn::free_gauge(*fixed).to_dense();
  }
  return std::get<tn::Mpo>(network).to_dense();
}

}  // namespace schmidt::model
