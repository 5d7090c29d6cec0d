#include "schmidt/compress/learned_rounding.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <random>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/base/shuffle.h"

namespace schmidt::compress {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// W' of W [m, n], offsets v [m, n] and the shares [m, groups] of its range, with the gradients
/// of a rounding that passes them on.
struct Rounded : torch::autograd::Function<Rounded> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& w,
                               const torch::Tensor& v, const torch::Tensor& low_share,
                               const torch::Tensor& high_share, const torch::Tensor& low,
                               const torch::Tensor& high, const quant::IntegerFormat* format,
                               torch::ScalarType stored) {
    const IntegerGrid grid = grid_of({low * low_share, high * high_share}, *format, stored);
    const torch::Tensor codes = nearest_codes(w, grid, v);
    context->save_for_backward(
        {w, v, low_share, high_share, low, high, grid.scales, grid.zeros, codes.to(torch::kUInt8)});
    context->saved_data["format"] = model::as_numbers(*format);
    return numbers_of(codes, grid);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const quant::IntegerFormat format =
        model::format_of(context->saved_data["format"].toIntVector());
    const variable_list saved = context->get_saved_variables();
    const auto in_groups = [&](const torch::Tensor& t) {
      return t.unflatten(1, {-1, format.group});
    };
    const torch::Tensor w = in_groups(saved[0]), v = in_groups(saved[1]);
    const torch::Tensor &low_share = saved[2], &high_share = saved[3], &low = saved[4],
                        &high = saved[5];
    const torch::Tensor s = saved[6].unsqueeze(-1), z = saved[7].unsqueeze(-1);
    const torch::Tensor q = in_groups(saved[8]).to(torch::kFloat32);
    const torch::Tensor g = in_groups(gradients[0]);
    const torch::Tensor whole = w / s;
    const torch::Tensor unclamped = (whole + v + z).round_();
    const torch::Tensor inside = unclamped.eq(q).to(torch::kFloat32);

    const torch::Tensor dv = (g * inside * s).flatten(1);
    torch::Tensor ds = (g * ((q - z) - inside * whole)).sum(-1);  // [m, groups]
    torch::Tensor dlow, dhigh;
    const double steps = format.levels() - 1;
    if (format.symmetric) {
      // s = 2 max(high, -low) / steps
      const torch::Tensor of_high = (high * high_share >= -low * low_share).to(torch::kFloat32);
      dhigh = ds * of_high * high * (2 / steps);
      dlow = ds * (1 - of_high) * low * (-2 / steps);
    } else {
      // s = (high - low) / steps and z = -low / s
      const torch::Tensor dz = (g * (inside - 1) * s).sum(-1);
      ds = ds + dz * low * low_share / saved[6].square();
      dhigh = ds * high / steps;
      dlow = ds * low / -steps - dz * low / saved[6];
    }
    return {torch::Tensor(), dv, dlow, dhigh, torch::Tensor(), torch::Tensor(), torch::Tensor(),
            torch::Tensor()};
  }
};

/// One matrix as it is learned.
class LearnedMatrix {
 public:
  explicit LearnedMatrix(const RoundedMatrix& layer)
      : layer_(layer),
        range_(searched_range(layer.weight, layer.format, layer.scale_type,
                              layer.column_weights.defined()
                                  ? layer.column_weights.to(layer.weight.device())
                                  : torch::Tensor())),
        offset_(at::zeros_like(layer.weight)),
        low_(at::ones_like(range_.low)),
        high_(at::ones_like(range_.high)) {
    for (torch::Tensor* t : {&offset_, &low_, &high_}) t->set_requires_grad(true);
  }

  /// W' [m, n] of the moment.
  torch::Tensor rounded() const {
    return Rounded::apply(layer_.weight, offset_, low_, high_, range_.low, range_.high,
                          &layer_.format, layer_.scale_type);
  }

  void step(double rate) {
    const at::NoGradGuard no_grad;
    move(offset_, rate, -0.5, 0.5);
    move(low_, rate, kLeastShare, kMostShare);
    move(high_, rate, kLeastShare, kMostShare);
  }

  /// Back to the nearest codes.
  void reset() {
    const at::NoGradGuard no_grad;
    offset_.zero_();
    low_.fill_(1);
    high_.fill_(1);
  }

  model::QuantizedMatrix result() const {
    const at::NoGradGuard no_grad;
    const IntegerGrid grid =
        grid_of({range_.low * low_, range_.high * high_}, layer_.format, layer_.scale_type);
    return packed(nearest_codes(layer_.weight, grid, offset_), grid, layer_.scale_type);
  }

 private:
  static constexpr double kLeastShare = 0.3, kMostShare = 1.2;

  // An expert that no token of the piece takes has no gradient.
  static void move(torch::Tensor& t, double rate, double least, double most) {
    if (!t.grad().defined()) return;
    t.sub_(t.grad().sign_(), rate).clamp_(least, most);
    t.mutable_grad() = torch::Tensor();
  }

  const RoundedMatrix& layer_;
  GroupRange range_;
  torch::Tensor offset_, low_, high_;
};

/// One layer as it is learned.
class LearnedLayer {
 public:
  explicit LearnedLayer(const RoundedLayer& layer) : layer_(layer) {
    const auto add = [&](const std::optional<RoundedMatrix>& matrix) {
      if (matrix) matrices_.push_back(std::make_unique<LearnedMatrix>(*matrix));
      return matrix ? matrices_.back().get() : nullptr;
    };
    whole_ = add(layer.whole);
    left_ = add(layer.left);
    right_ = add(layer.right);
  }

  /// x [.., n] -> [.., m], products in that type.
  torch::Tensor apply(const torch::Tensor& x, torch::ScalarType products) const {
    const torch::Tensor narrow = x.to(products);
    torch::Tensor y;
    if (whole_ != nullptr) y = at::linear(narrow, whole_->rounded().to(products));
    if (left_ != nullptr) {
      const torch::Tensor inner = at::linear(narrow, right_->rounded().to(products));
      const torch::Tensor low_rank = at::linear(inner, left_->rounded().to(products));
      y = y.defined() ? y + low_rank : low_rank;
    }
    y = y.to(x.scalar_type());
    return layer_.bias ? y + *layer_.bias : y;
  }

  void step(double rate) {
    for (const auto& matrix : matrices_) matrix->step(rate);
  }
  void reset() {
    for (const auto& matrix : matrices_) matrix->reset();
  }

  RoundedParts result() const {
    RoundedParts parts;
    if (whole_ != nullptr) parts.whole = whole_->result();
    if (left_ != nullptr) parts.left = left_->result();
    if (right_ != nullptr) parts.right = right_->result();
    return parts;
  }

  int64_t out_features() const { return layer_.out_features; }

 private:
  const RoundedLayer& layer_;
  std::vector<std::unique_ptr<LearnedMatrix>> matrices_;
  LearnedMatrix *whole_, *left_, *right_;  // null where the layer has none
};

class LearnedProjection : public model::Projection {
 public:
  LearnedProjection(const LearnedLayer& layer, torch::ScalarType products)
      : layer_(layer), products_(products) {}

  torch::Tensor apply(const torch::Tensor& x) const override { return layer_.apply(x, products_); }
  int64_t out_features() const override { return layer_.out_features(); }
  std::vector<model::NamedTensor> parameters() const override { return {}; }
  torch::Tensor weight() const override {
    TORCH_INTERNAL_ASSERT(false, "[learned_rounding] a layer that is learned has no weight yet");
  }

 private:
  const LearnedLayer& layer_;
  torch::ScalarType products_;
};

class Learner {
 public:
  Learner(const model::Block& block, const std::vector<model::ProjectionPtr>& groups,
          const BlockText& text)
      : block_(block), groups_(groups), text_(text) {}

  /// Some windows of a batch.
  struct Piece {
    int64_t batch, begin, rows;
  };

  /// All windows, at most so many of them in a piece.
  std::vector<Piece> pieces(int64_t rows) const {
    std::vector<Piece> all;
    for (const int64_t b : text_.batches) {
      const int64_t windows = text_.targets.read(b).size(0);
      for (int64_t i = 0; i < windows; i += rows)
        all.push_back({b, i, std::min(rows, windows - i)});
    }
    return all;
  }

  /// Differentiable.
  torch::Tensor error(const Piece& piece) const {
    const auto rows = [&](const calibrate::ActivationStream& states) {
      return states.read(piece.batch).narrow(0, piece.begin, piece.rows);
    };
    model::BlockPass pass = block_.begin(rows(text_.inputs), text_.rope);
    for (const model::ProjectionPtr& projection : groups_) pass.apply(*projection);
    // The first token of a window is orders of magnitude larger than all others.
    const torch::Tensor target = rows(text_.targets).slice(1, 1).to(torch::kFloat32);
    const torch::Tensor e = pass.residual().slice(1, 1).to(torch::kFloat32) - target;
    const torch::Tensor weighted =
        text_.output_weight.defined() ? at::matmul(e, text_.output_weight) : e;
    return ((e * weighted).sum(-1) / target.square().sum(-1).clamp_min(1e-12)).mean();
  }

  double mean_error() const {
    const at::NoGradGuard no_grad;
    double sum = 0;
    int64_t windows = 0;
    for (const Piece& piece : pieces(std::numeric_limits<int64_t>::max())) {
      sum += error(piece).item<double>() * static_cast<double>(piece.rows);
      windows += piece.rows;
    }
    return sum / static_cast<double>(windows);
  }

 private:
  const model::Block& block_;
  const std::vector<model::ProjectionPtr>& groups_;
  const BlockText& text_;
};

}  // namespace

LearnedBlock learn_rounding(const model::Block& block, const std::vector<BlockLayer>& layers,
                            const BlockText& text, const LearningOptions& options) {
  std::vector<std::unique_ptr<LearnedLayer>> learned;
  std::vector<model::ProjectionPtr> groups;
  for (const model::Group group : block.groups()) {
    std::vector<model::ProjectionPtr> members;
    for (const BlockLayer& layer : layers) {
      if (layer.group != group) continue;
      if (layer.rounded) {
        learned.push_back(std::make_unique<LearnedLayer>(*layer.rounded));
        members.push_back(std::make_shared<LearnedProjection>(*learned.back(), options.products));
      } else {
        members.push_back(layer.fixed);
      }
    }
    groups.push_back(model::concatenate(std::move(members)));
  }
  const Learner learner(block, groups, text);

  LearnedBlock result;
  result.error_before = learner.mean_error();
  std::mt19937_64 random(options.seed);
  const std::vector<Learner::Piece> pieces = learner.pieces(options.rows);
  std::vector<int64_t> order;
  for (int64_t step = 0; step < options.steps; ++step) {
    if (order.empty()) order = shuffled(static_cast<int64_t>(pieces.size()), random);
    const Learner::Piece& piece = pieces[static_cast<size_t>(order.back())];
    order.pop_back();
    {
      const at::AutoGradMode gradients(true);
      const torch::Tensor error = learner.error(piece);
      if (error.requires_grad()) error.backward();  // not where no token takes a learned expert
    }
    const double left = 1.0 - static_cast<double>(step) / static_cast<double>(options.steps);
    for (const auto& layer : learned) layer->step(left / static_cast<double>(options.steps));
  }
  result.error_after = options.steps > 0 ? learner.mean_error() : result.error_before;
  if (!(result.error_after < result.error_before)) {
    for (const auto& layer : learned) layer->reset();
    result.error_after = result.error_before;
  }
  for (const auto& layer : learned) result.layers.push_back(layer->result());
  return result;
}

}  // namespace schmidt::compress
