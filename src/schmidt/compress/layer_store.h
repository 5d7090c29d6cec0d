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
#include "schmidt/compress/methods.h"
#include "schmidt/io/checkpoint.h"

namespace schmidt::compress {

/// A compressed layer as a checkpoint holds it.
struct StoredForm {
  nlohmann::json form;  ///< its entry in compression_config.layers
  std::vector<std::pair<std::string, torch::Tensor>> tensors;  ///< under their full names
};

/// The factors in `dtype`, without the freedom of their bonds if `fixed_gauge`.
/// A bond that its sides cannot carry becomes smaller then.
StoredForm stored_form(const plan::Layer& layer, const Factors& factors, bool fixed_gauge,
                       torch::ScalarType dtype);

struct LayerResult {
  plan::LayerPlan plan;
  std::vector<tn::SiteShape> shapes;        ///< of each term
  std::vector<std::vector<int64_t>> bonds;  ///< the ones reached, of each term
  int64_t parameters = 0;                   ///< stored
  double relative_error = 0.0;              ///< as in Factors
  std::optional<double> weighted_error;
  std::string method;                 ///< that found it
  std::vector<Candidate> candidates;  ///< it was chosen from, if several were tried
};

/// The finished layers of one run, each in files that appear whole or not at all.
class LayerStore {
 public:
  /// `folder` is the first thing in the one around it. `work` names the run: what another one
  /// has left there is refused, or dropped if `force`.
  /// Throws c10::ValueError, SystemError.
  LayerStore(std::filesystem::path folder, const std::string& work, bool force);

  bool has(const plan::Layer& layer) const;
  void save(const plan::LayerPlan& plan, const Factors& factors, const StoredForm& form) const;
  StoredForm load(const plan::Layer& layer) const;
  nlohmann::json form(const plan::Layer& layer) const;  ///< of the above, without its tensors
  LayerResult result(const plan::LayerPlan& plan) const;
  const std::filesystem::path& folder() const { return folder_.path(); }

 private:
  std::filesystem::path tensors_file(const plan::Layer& layer) const;
  std::filesystem::path form_file(const plan::Layer& layer) const;

  WorkFolder folder_;
};

}  // namespace schmidt::compress
