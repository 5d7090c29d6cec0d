#include "schmidt/profile/plan_by_profile.h"

#include <cmath>
#include <map>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/plan/allocate.h"
#include "schmidt/tn/gauge.h"

namespace schmidt::profile {
namespace {

constexpr int kStepsBetweenPoints = 16;

double between(double a, double b, double part) { return a + part * (b - a); }

double squared(double x) { return x * x; }

/// The points that hold: finite, ascending, a loss below 0 (noise) as none.
std::vector<Point> sound(const std::vector<Point>& points) {
  std::vector<Point> kept;
  for (Point point : points) {
    if (!std::isfinite(point.loss)) continue;
    if (!kept.empty() && point.parameters <= kept.back().parameters) continue;
    point.loss = std::max(point.loss, 0.0);
    kept.push_back(std::move(point));
  }
  return kept;
}

/// A layer at distance `part` from one block towards the next.
std::vector<Point> interpolated(const std::vector<Point>& a, const std::vector<Point>& b,
                                double part) {
  std::vector<Point> points = a;
  for (size_t i = 0; i < points.size(); ++i) {
    points[i].loss = between(a[i].loss, b[i].loss, part);
    points[i].value = between(a[i].value, b[i].value, part);
  }
  return points;
}

const Point dense_point(const plan::Layer& layer) { return {{}, layer.numel(), 0.0, 0.0, 0.0, {}}; }

/// Points close together, so that a budget is spent to the last parameter.
plan::LayerCurve fine_curve(const Sensitivity& s, const ShareLimits& limits) {
  const plan::Layer& layer = s.network.layer;
  const auto full = static_cast<double>(layer.numel());
  plan::LayerCurve curve{layer, {}};
  const auto add = [&](int64_t parameters, double loss, std::vector<int64_t> bonds) {
    const double share = static_cast<double>(parameters) / full;
    const bool ascends = curve.points.empty() || parameters > curve.points.back().parameters;
    if (ascends && share >= limits.floor && share <= limits.ceiling) {
      curve.points.push_back({parameters, loss, std::move(bonds)});
    }
  };
  for (size_t i = 0; i < s.points.size(); ++i) {
    const Point& from = s.points[i];
    const bool last = i + 1 == s.points.size();
    const std::vector<int64_t> to = last ? tn::full_bonds(s.network.shape) : s.points[i + 1].bonds;
    for (int step = 0; step < kStepsBetweenPoints; ++step) {
      plan::LayerPlan plan = s.network;
      for (size_t k = 0; k < to.size(); ++k) {
        const double part = static_cast<double>(step) / kStepsBetweenPoints;
        plan.max_bonds.push_back(std::lround(
            between(static_cast<double>(from.bonds[k]), static_cast<double>(to[k]), part)));
      }
      const int64_t parameters = plan.parameters();
      if (parameters < layer.numel()) add(parameters, s.loss(parameters), plan.max_bonds);
    }
  }
  add(layer.numel(), 0.0, {});
  TORCH_CHECK_VALUE(!curve.points.empty(), "[plan] no point of ", layer.name,
                    " lies between the floor of ", limits.floor, " and the ceiling of ",
                    limits.ceiling, " of its parameters");
  return curve;
}

}  // namespace

double Sensitivity::loss(int64_t parameters) const {
  const Point dense = dense_point(network.layer);
  const Point* below = &points.front();
  if (parameters <= below->parameters) return below->loss;
  for (size_t i = 1; i <= points.size(); ++i) {
    const Point& above = i < points.size() ? points[i] : dense;
    if (parameters <= above.parameters) {
      const double part = static_cast<double>(parameters - below->parameters) /
                          static_cast<double>(above.parameters - below->parameters);
      return squared(between(std::sqrt(below->loss), std::sqrt(above.loss), part));
    }
    below = &above;
  }
  return 0.0;
}

std::vector<Sensitivity> sensitivities(const Profile& profile,
                                       const std::vector<plan::Layer>& layers) {
  // By what is alike from block to block, the profiled layers by block; an expert is taken to be
  // like that of its number in the blocks beside.
  using Kind = std::pair<std::string, std::optional<int64_t>>;
  const auto kind_of = [](const plan::Layer& layer) -> Kind {
    return {layer.label(), layer.expert};
  };
  std::map<Kind, std::map<int64_t, Sensitivity>> profiled;
  bool stacked = false;
  for (const LayerProfile& layer : profile.layers) {
    stacked = stacked || layer.network.layer.members.size() > 1;
    Sensitivity s{layer.network, sound(layer.points)};
    if (s.points.empty()) continue;  // the model broke down at every point
    profiled[kind_of(layer.network.layer)].insert_or_assign(layer.network.layer.block,
                                                            std::move(s));
  }
  std::vector<Sensitivity> found;
  for (const plan::Layer& layer : stacked ? plan::share_inputs(layers) : layers) {
    const auto kind = profiled.find(kind_of(layer));
    if (kind == profiled.end()) continue;
    const auto& blocks = kind->second;
    auto above = blocks.lower_bound(layer.block);
    auto below = above;
    if (above == blocks.end()) {
      below = above = std::prev(above);
    } else if (above->first != layer.block && above != blocks.begin()) {
      below = std::prev(above);
    }
    Sensitivity s = below->second;
    const auto distance = static_cast<double>(above->first - below->first);
    if (distance > 0 && above->second.points.size() == s.points.size()) {
      s.points = interpolated(s.points, above->second.points,
                              static_cast<double>(layer.block - below->first) / distance);
    }
    TORCH_CHECK_VALUE(s.network.layer.rows == layer.rows && s.network.layer.cols == layer.cols,
                      "[plan] expected a profile of a model whose ", layer.name, " is ", layer.rows,
                      " x ", layer.cols, ", got one with ", s.network.layer.rows, " x ",
                      s.network.layer.cols);
    s.network.layer = layer;
    found.push_back(std::move(s));
  }
  return found;
}

ProfilePlan plan_by_profile(const std::vector<Sensitivity>& layers, int64_t budget,
                            const ShareLimits& limits) {
  std::vector<plan::LayerCurve> curves;
  for (const Sensitivity& s : layers) curves.push_back(fine_curve(s, limits));
  const std::vector<size_t> chosen = plan::allocate(curves, budget);
  ProfilePlan plan;
  for (size_t i = 0; i < layers.size(); ++i) {
    const plan::CurvePoint& point = curves[i].points[chosen[i]];
    plan.loss += point.loss;
    if (point.bonds.empty()) continue;
    plan.layers.push_back(layers[i].network);
    plan.layers.back().max_bonds = point.bonds;
  }
  return plan;
}

int64_t least_parameters(const std::vector<Sensitivity>& layers, const ShareLimits& limits) {
  int64_t least = 0;
  for (const Sensitivity& s : layers) least += fine_curve(s, limits).points.front().parameters;
  return least;
}

double predicted_loss(const std::vector<Sensitivity>& layers,
                      const std::vector<plan::LayerPlan>& plan) {
  std::map<std::string, const Sensitivity*> by_member;
  for (const Sensitivity& s : layers) by_member[s.network.layer.members.front()] = &s;
  double loss = 0.0;
  for (const plan::LayerPlan& p : plan) {
    const auto found = by_member.find(p.layer.members.front());
    if (found != by_member.end()) loss += found->second->loss(p.parameters());
  }
  return loss;
}

}  // namespace schmidt::profile
