#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/diagonal_fisher.h"
#include "schmidt/calibrate/gradient_moments.h"
#include "schmidt/io/json_record.h"
#include "schmidt/model/stored_layer.h"
#include "schmidt/plan/plan.h"
#include "schmidt/tn/als.h"
#include "schmidt/tn/drift.h"
#include "schmidt/tn/gauss_newton.h"

namespace schmidt::compress {

/// What is known of a layer's inputs x in the original model and x' in the one that
/// is being compressed, whose earlier layers have changed already.
struct LayerInputs {
  torch::Tensor moments;                      ///< E[x' x'^T] [n, n]; undefined without calibration
  torch::Tensor cross;                        ///< E[x x'^T] [n, n]; undefined: x' is x
  std::shared_ptr<const tn::DriftMap> drift;  ///< of these two, where layers share it
  std::optional<calibrate::GradientMoments> gradient;
  std::optional<calibrate::DiagonalFisher> diagonal;  ///< where statistics were collected
  torch::Tensor
      of_rows;  ///< RowFisher::summed [n, n] of an embedding or output layer, in place of `moments`
};

/// The same for W [m, n], with inputs or outputs that count alike where these say that none counts,
/// as of an expert that no token takes: a norm of zero would leave nothing of W.
LayerInputs without_zero_norms(const torch::Tensor& w, LayerInputs inputs);

struct MethodOptions {
  double tolerance = 0.0;      ///< tt-svd: relative Frobenius error a layer may have, [0, 1)
  double drift = 0.5;          ///< how far targets follow the drift of inputs, [0, 1]
  double damping = 0.05;       ///< of the gradient's moments, relative to their mean
  double ridge = 1e-4;         ///< of the inputs' moments, relative to their mean; > 0
  int64_t sites = 2;           ///< of MPOs where a plan's network is of low rank; >= 2
  double mpo_share = 0.2;      ///< sum: share of the parameters that the MPO has, (0, 1)
  tn::AlsOptions als;          ///< of als
  tn::GaussNewtonOptions fit;  ///< of gauss-newton and sum
  int64_t steps = 100;         ///< learned: of each block, at least 0
};

/// What a recipe records of them, and what unfinished work is known by.
nlohmann::json to_json(const MethodOptions& options);
/// Throws FormatError.
MethodOptions parse_method_options(const io::JsonRecord& record);

/// One of several ways that a layer was tried in.
struct Candidate {
  std::string method;
  double error = 0.0;      ///< relative, in the one norm that all are judged in
  int64_t parameters = 0;  ///< stored
  bool finished = true;    ///< or given up early, far behind
};

/// What a method has made of a layer's weight, and how far that is from it.
struct FittedWeight {
  model::StoredWeight weight;   ///< networks in the full gauge; in the dtype of W
  double relative_error = 0.0;  ///< ||W - W'||_F / ||W||_F; says nothing of perplexity
  /// The same in the norm of the inputs that the layer sees, sqrt(E|(W - W') x'|^2 /
  /// E|W x'|^2), where they are known.
  std::optional<double> weighted_error;
  bool gave_up = false;     ///< see tn::GaussNewtonOptions::to_beat
  std::string method = {};  ///< that found them, where the planned one chose between several
  std::vector<Candidate> candidates = {};  ///< it chose from
};

/// Settings of MethodOptions that not all methods read.
enum class MethodSetting { kTolerance, kSweeps, kRounds, kSteps };

/// A way to replace a layer's weight. A new one is one function and one line of the table in
/// methods.cpp (or a call of add_method).
struct Method {
  std::string_view name;
  bool needs_inputs = false;
  bool needs_gradient = false;
  bool needs_outputs = false;  ///< H itself, where that is not larger than its block
  bool any_shape = false;      ///< otherwise only (m, 1) x (1, n)
  /// One network of the plan's sites, its bonds the largest; otherwise whatever fits into the
  /// plan's parameters.
  bool one_network = true;
  /// Integers of few bits, which the plan has to give; nothing else in that case.
  bool integers = false;
  bool nf4 = false;         ///< NF4 too, where the plan has it in place of integers
  bool feeds_back = false;  ///< numbers still to be rounded make up for those that are
  bool prunes = false;      ///< neurons of an MLP, which the plan has to number
  /// `fit` is where learning from the output of the whole block begins.
  bool learns_block = false;
  std::span<const MethodSetting> settings = {};

  FittedWeight (*fit)(const torch::Tensor& weight, const plan::LayerPlan& plan,
                      const LayerInputs& inputs, const MethodOptions& options) = nullptr;
  /// Throws c10::ValueError for a plan that the method cannot carry out; beside what all check.
  void (*check)(const plan::LayerPlan& plan, const MethodOptions& options) = nullptr;

  bool reads(MethodSetting setting) const;
};

/// What `method` makes of one layer: how all runs call it. Where a decomposition does not
/// converge it is tried once more in float64; the result is in w's dtype.
/// Throws c10::ValueError where the moments of the layer's inputs or gradients are not
/// finite; c10::LinAlgError, naming the layer, where float64 does not help.
FittedWeight fit_layer(const Method& method, const torch::Tensor& w, const plan::LayerPlan& plan,
                       const LayerInputs& inputs, const MethodOptions& options);

struct RoundedParts;

/// A weight that has been rounded, with its errors.
FittedWeight rounded_weight(const torch::Tensor& w, const plan::LayerPlan& plan,
                            const RoundedParts& rounded, const LayerInputs& inputs);

/// Scalars that a file holds of the weight, its networks with a fixed gauge or without.
int64_t stored_parameters(const std::string& layer, const model::StoredWeight& weight,
                          bool fixed_gauge);

std::vector<const Method*> methods();

/// Adds a method from outside the library; `method` has to outlive its use. Not safe beside
/// threads that look methods up. Throws c10::ValueError if there is one of that name.
void add_method(const Method& method);

/// The sites of an MPO for a layer: the plan's, balanced ones where it is of low rank. None
/// where rows and columns have too few divisors.
std::optional<tn::SiteShape> mpo_shape(const plan::LayerPlan& plan, int64_t sites);

/// What of a plan's parameters the low rank and the MPO of method sum get. None where they do
/// not suffice for rank 1 and bonds of 1, or mpo_shape has none.
struct SumParts {
  int64_t rank;
  tn::SiteShape shape;         ///< of the MPO
  std::vector<int64_t> bonds;  ///< its largest
};
std::optional<SumParts> sum_parts(const plan::LayerPlan& plan, const MethodOptions& options);

/// Throws c10::ValueError, naming those that exist.
const Method& find_method(std::string_view name);

/// Throws FormatError, naming the file that they were read from, unless every layer's method
/// exists and can have its sites.
void check_methods(const std::vector<plan::LayerPlan>& layers, const std::filesystem::path& path);

}  // namespace schmidt::compress
