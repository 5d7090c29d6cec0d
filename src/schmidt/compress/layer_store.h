#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/base/work_folder.h"
#include "schmidt/compress/stored_fit.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/layer_kind.h"

namespace schmidt::compress {

struct LayerResult {
  plan::LayerPlan plan;
  std::vector<model::NetworkShape> networks;  ///< with the bonds that were reached
  int64_t parameters = 0;                     ///< stored
  double relative_error = 0.0;                ///< as in FittedWeight
  std::optional<double> weighted_error;
  std::optional<double> rounding_error;  ///< as in StoredFit, where the dtype rounds
  std::string method;                    ///< that found it
  std::vector<Candidate> candidates;     ///< it was chosen from, if several were tried
};

/// The finished layers of one run, each in files that appear whole or not at all.
class LayerStore {
 public:
  /// `folder` is the first thing in the one around it. `work` names the run: what another one
  /// has left there is refused, or dropped if `force`.
  /// Throws c10::ValueError, SystemError.
  LayerStore(std::filesystem::path folder, const std::string& work, bool force);

  bool has(const plan::Layer& layer) const;
  void save(const plan::LayerPlan& plan, const StoredFit& fit) const;
  model::StoredWeight load(const plan::Layer& layer) const;
  nlohmann::json form(const plan::Layer& layer) const;  ///< of the above, without its tensors
  LayerResult result(const plan::LayerPlan& plan) const;
  const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  std::filesystem::path tensors_file(const plan::Layer& layer) const;
  std::filesystem::path form_file(const plan::Layer& layer) const;

  WorkFolder folder_;
};

}  // namespace schmidt::compress
