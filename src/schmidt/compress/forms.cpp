#include "schmidt/compress/forms.h"

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/matmul.h>

#include "schmidt/compress/error_feedback.h"
#include "schmidt/compress/integer_grid.h"
#include "schmidt/compress/rounded_weight.h"
#include "schmidt/tn/weighted_low_rank.h"

namespace schmidt::compress {
namespace {

constexpr int64_t kSampledRows = 96;
constexpr int64_t kSampledTokens = 4096;  // few of which are most of all text
constexpr int kTries = 6;                 // of ranges of factors

/// What learning leaves of the loss of searched ranges, as measured (docs/results.md).
constexpr double kLearnedShare = 0.45;

/// What dropping a rank costs over its prediction, as measured beside integers (docs/results.md).
constexpr double kDroppedMeasured = 1.7;

constexpr int64_t kRanks[] = {8, 16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512};
constexpr const char* kFactorsMethod = "fisher";
constexpr int64_t kMostAdded = 64;  // rank beside integers
constexpr int kFactorBits[] = {8, 4};
constexpr int kAddedBits = 8;  // of factors beside integers
constexpr int kWholeBitsOfSums[] = {4, 3, 2};

/// Some rows of a weight, evenly spaced, each with the weight of those that it stands for.
struct Sample {
  int64_t step;
  torch::Tensor w;
  torch::Tensor rows;  // of the Fisher information
};

Sample sample_of(const torch::Tensor& w, const torch::Tensor& fisher_rows, int64_t count) {
  const int64_t step = std::max<int64_t>(1, w.size(0) / count);
  const torch::Tensor rows = fisher_rows.slice(0, 0, c10::nullopt, step);
  const torch::Tensor share = fisher_rows.sum(0) / rows.sum(0).clamp_min(1e-30);
  return {step, w.slice(0, 0, c10::nullopt, step).to(torch::kFloat32), rows * share};
}

/// The losses of one weight's forms.
class Predictor {
 public:
  Predictor(const plan::Layer& layer, const torch::Tensor& w,
            const calibrate::Statistics& statistics, const MethodOptions& options)
      : layer_(layer),
        w_(w.to(torch::kFloat32)),
        statistics_(statistics),
        options_(options),
        fisher_(statistics.diagonal(layer)),
        sample_(sample_of(w_, fisher_.rows, layer.block < 0 ? kSampledTokens : kSampledRows)) {
    if (layer.block < 0) moments_ = statistics.rows(layer).moments;
  }

  double loss(const plan::LayerPlan& plan) {
    if (!plan.is_rounded()) return kDroppedMeasured * dropped(plan.rank());
    const Method& method = find_method(plan.method);
    const bool searches = method.needs_inputs;
    const double left = method.learns_block ? kLearnedShare : 1.0;
    if (method.feeds_back && moments_.defined()) return of_feedback(*plan.integers);
    if (!plan.factor_integers) return left * of_whole(*plan.integers, searches);
    if (plan.integers) {
      return left * of_whole(*plan.integers, searches) * left_by_rank(*plan.integers, plan.rank());
    }
    return dropped(plan.rank()) + left * of_factors(plan, searches);
  }

 private:
  using Format = std::tuple<int, int64_t, bool>;
  static Format key(const quant::IntegerFormat& format) {
    return {format.bits, format.group, format.symmetric};
  }

  /// Also part of the loss of every sum with these integers.
  double of_whole(const quant::IntegerFormat& format, bool searches) {
    const auto [loss, unknown] = whole_.try_emplace(key(format), 0.0);
    if (unknown) {
      loss->second = sampled_loss(
          rounded(sample_.w, format, search(searches, fisher_.column_weights(), 20)) - sample_.w);
    }
    return loss->second;
  }

  /// Of rows that meet nothing of each other.
  double of_feedback(const quant::IntegerFormat& format) {
    if (!feedback_.defined()) {
      feedback_ =
          feedback_of(calibrate::RowFisher{fisher_.rows, moments_}.summed(), kFeedbackDamping);
    }
    const IntegerGrid grid = grid_for(sample_.w, format, RangeSearch{fisher_.column_weights()});
    const torch::Tensor error =
        numbers_of(gptq_codes(sample_.w, grid, feedback_), grid) - sample_.w;
    return calibrate::RowFisher{sample_.rows, moments_}.loss(error);
  }

  static std::optional<RangeSearch> search(bool searches, const torch::Tensor& column_weights,
                                           int tries) {
    return searches ? std::optional(RangeSearch{column_weights, tries}) : std::nullopt;
  }

  double sampled_loss(const torch::Tensor& error) const {
    return calibrate::DiagonalFisher{sample_.rows, fisher_.columns}.loss(error);
  }

  /// Half of the squares beyond a rank.
  double dropped(int64_t rank) {
    if (!squares_.defined()) squares_ = statistics_.squares(layer_);
    return squares_.slice(0, rank).sum().item<double>() / 2;
  }

  /// What rounding the factors of W costs beside what the rank drops.
  double of_factors(const plan::LayerPlan& plan, bool searches) {
    if (!left_.defined()) factorize();
    const int64_t rank = std::min(plan.rank(), left_.size(1));
    // The first columns of Q and the corner of T are those of the first columns of L.
    const torch::Tensor l = left_.narrow(1, 0, rank);
    const torch::Tensor r =
        at::matmul(triangle_.narrow(0, 0, rank).narrow(1, 0, rank), right_.narrow(0, 0, rank));
    const torch::Tensor rows = l.slice(0, 0, c10::nullopt, sample_.step).contiguous();
    quant::IntegerFormat left_format = plan.left_integers();
    if (rank % left_format.group != 0) return std::numeric_limits<double>::infinity();
    const torch::Tensor exact = at::matmul(rows, r);
    const torch::Tensor stored =
        at::matmul(rounded(rows, left_format, search(searches, {}, kTries)),
                   rounded(r, *plan.factor_integers, search(searches, {}, kTries)));
    return sampled_loss(stored - exact);
  }

  void factorize() {
    const Factors f =
        nearest_factors(w_, std::min(w_.size(0), w_.size(1)),
                        inputs_of_original(statistics_, layer_, w_.device()), options_);
    std::tie(left_, triangle_) = at::linalg_qr(f.left);
    right_ = f.right;
  }

  /// The share of the loss of rounding W that is left beside the best low rank of the error, in
  /// the norm of the inputs' correlations with the Fisher information's diagonal.
  double left_by_rank(const quant::IntegerFormat& format, int64_t rank) {
    torch::Tensor& shares = shares_[key(format)];
    if (!shares.defined()) {
      const torch::Tensor error =
          rounded(w_, format, RangeSearch{fisher_.column_weights(), kTries}) - w_;
      const torch::Tensor g = statistics_.inputs(layer_);
      const torch::Tensor scale =
          (fisher_.columns.sum(0) / g.diagonal().clamp_min(1e-20)).sqrt();  // [n]
      const torch::Tensor weighted = error * fisher_.rows.sum(1, true).sqrt();
      shares = tn::error_of_each_rank(tn::weighted_singular_values(
          weighted, {scale.unsqueeze(1) * g * scale.unsqueeze(0), {}}));
    }
    const double relative = shares[rank].item<double>();
    return relative * relative;
  }

  const plan::Layer& layer_;
  torch::Tensor w_;
  const calibrate::Statistics& statistics_;
  const MethodOptions& options_;
  calibrate::DiagonalFisher fisher_;
  Sample sample_;
  torch::Tensor moments_;   // of the embedding's and the output layer's rows, [k, n, n]
  torch::Tensor feedback_;  // of rows with these
  torch::Tensor squares_;
  torch::Tensor left_, triangle_, right_;  // L = Q T of the full rank, Q in left_
  std::map<Format, double> whole_;
  std::map<Format, torch::Tensor> shares_;
};

}  // namespace

plan::LayerForms possible_forms(const plan::Layer& layer, const FormChoice& choice) {
  plan::LayerForms result{layer, {{{}, plan::dense_bytes(layer, choice.scalar_bytes), 0.0}}};
  const auto format = [&](int bits, int64_t group) {
    return quant::IntegerFormat{bits, group, choice.symmetric || bits == 8};
  };
  int64_t most = std::numeric_limits<int64_t>::max();
  const auto add = [&](plan::LayerPlan plan) {
    plan.layer = layer;
    plan.method = choice.method;
    const int64_t bytes = plan::stored_bytes(plan, choice.scalar_bytes);
    if (bytes <= most) result.forms.push_back({std::move(plan), bytes, 0.0});
    return bytes;
  };
  const tn::SiteShape shape = tn::low_rank_shape(layer.rows, layer.cols);
  const int64_t least_side = std::min(layer.rows, layer.cols);
  if (choice.kinds.factors && layer.block >= 0) {
    for (const int64_t rank : kRanks) {
      if (rank >= least_side) break;
      plan::LayerPlan factors{
          .layer = layer, .shape = shape, .max_bonds = {rank}, .method = kFactorsMethod};
      const int64_t bytes = plan::stored_bytes(factors, choice.scalar_bytes);
      result.forms.push_back({std::move(factors), bytes, 0.0});
    }
  }
  for (const int64_t group : choice.groups) {
    if (layer.cols % group != 0) continue;
    int64_t widest = 0;
    for (const int bits : quant::kIntegerWidths) {
      if (choice.kinds.whole) widest = std::max(widest, add({.integers = format(bits, group)}));
    }
    if (layer.block < 0) continue;
    if (widest > 0) most = std::min(most, widest);
    for (const int64_t rank : kRanks) {
      if (rank >= least_side) break;
      for (const int bits : kFactorBits) {
        if (!choice.kinds.low_rank) continue;
        add({.shape = shape, .max_bonds = {rank}, .factor_integers = format(bits, group)});
      }
      for (const int bits : kWholeBitsOfSums) {
        if (!choice.kinds.sums || rank > kMostAdded) continue;
        add({.shape = shape,
             .max_bonds = {rank},
             .integers = format(bits, group),
             .factor_integers = format(kAddedBits, group)});
      }
    }
  }
  return result;
}

void predict_losses(plan::LayerForms& forms, const torch::Tensor& w,
                    const calibrate::Statistics& statistics, const MethodOptions& options) {
  Predictor predictor(forms.layer, w, statistics, options);
  for (plan::Form& form : forms.forms) {
    if (form.plan) form.loss = predictor.loss(*form.plan);
  }
}

}  // namespace schmidt::compress
