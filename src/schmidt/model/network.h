#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/io/json_record.h"
#include "schmidt/model/layer_kind.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/model/weights.h"
#include "schmidt/tn/gauge.h"
#include "schmidt/tn/mpo.h"

namespace schmidt::model {

/// A matrix W [m, n] as a checkpoint may hold it: cores with the freedom of their
/// bonds, or without. Its form and its tensors are
///
///   {"out_dims": [m_1, ..], "in_dims": [n_1, ..], "bonds": [r_1, ..]}
///     NAME.cores.k   [r_{k-1}, m_k, n_k, r_k]
///
///   the same with "gauge": "fixed", see tn::GaugeFixed
///     NAME.cores.k   [r_{k-1} m_k n_k - r_k, r_k], the last [r_{K-1}, m_K, n_K, 1]
///     NAME.pivots.k  int32 [r_k], ascending
using Network = std::variant<tn::Mpo, tn::GaugeFixed>;

/// Reads the network of an m x n matrix under `name`; an Mpo whatever is stored where
/// LoadOptions::free_gauge asks for it.
/// Throws FormatError if the form does not multiply out to m x n, or a tensor is not
/// as the form says.
Network load_network(const io::JsonRecord& form, const std::string& name, int64_t m, int64_t n,
                     const Weights& weights);

/// What load_network reads back.
nlohmann::json network_form(const Network& network);
std::vector<NamedTensor> network_tensors(const std::string& name, const Network& network);

/// The cores alone, which is what training changes.
std::vector<NamedTensor> network_cores(const std::string& name, const Network& network);

/// [m, n] of the matrix that the network stands for.
std::vector<int64_t> matrix_shape(const NetworkShape& network);

/// "48 x 32; 18 x 32", the sites of outputs and of inputs; of a sum "48 x 32; 18 x 32 +
/// 1536 x 1; 1 x 576". Empty where there is none.
std::string sites_text(const std::vector<NetworkShape>& networks);

/// "40", "12 12 + 6".
std::string bonds_text(const std::vector<NetworkShape>& networks);

/// The form as described. Throws FormatError if a key is missing or of another kind.
NetworkShape network_shape(const io::JsonRecord& form);

/// The cores in the full gauge that stand under `name` in `weight`, as a file holds them:
/// form and tensors under the same names. The gauge is what `form`, the network's own, says
/// where `options` say nothing.
/// Throws c10::ValueError if a core holds NaN or infinity or there are none.
StoredWeight pack_network(const std::string& name, const nlohmann::json& form,
                          const StoredWeight& weight, const PackOptions& options);

/// Rows and columns of W.
struct NetworkSize {
  int64_t m, n;
};
NetworkSize network_size(const Network& network);

/// x [..., n] -> x W^T [..., m]. Differentiable.
torch::Tensor apply_network(const Network& network, const torch::Tensor& x);

/// W [m, n]. Allocates m * n scalars: tests and export only.
torch::Tensor network_matrix(const Network& network);

}  // namespace schmidt::model
