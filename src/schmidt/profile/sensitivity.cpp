#include "schmidt/profile/sensitivity.h"

#include <cmath>
#include <map>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/compress/fingerprint.h"
#include "schmidt/compress/streamed_model.h"
#include "schmidt/dist/ranks.h"
#include "schmidt/profile/point_log.h"

namespace schmidt::profile {
namespace {

namespace fs = std::filesystem;
using compress::LayerPlan;
using model::Group;
using nlohmann::ordered_json;

/// One layer at one setting; the number is its place in the profile.
struct Task {
  int64_t number;
  LayerPlan plan;
};

LayerPlan planned(const compress::Layer& layer, double setting, const ProfileOptions& options) {
  LayerPlan plan{.layer = layer, .shape = options.shape.shape_for(layer)};
  plan.method = options.method;
  plan.fixed_gauge = options.shape.fixed_gauge;
  if (options.setting == Setting::kBonds) {
    plan.max_bonds =
        compress::plan_bond({layer}, options.shape, std::llround(setting)).front().max_bonds;
  } else {
    const auto budget =
        static_cast<int64_t>(std::floor(setting * static_cast<double>(layer.numel())));
    plan.max_bonds = plan.fixed_gauge ? tn::gauge_fixed_bonds_for_budget(plan.shape, budget)
                                      : tn::bonds_for_budget(plan.shape, budget);
  }
  return plan;
}

void check(const model::Model& model, const std::vector<compress::Layer>& layers,
           const torch::Tensor& windows, const ProfileOptions& options) {
  TORCH_CHECK_VALUE(!layers.empty() && !options.settings.empty(),
                    "[profile] expected layers and settings, got none");
  TORCH_CHECK_VALUE(std::is_sorted(options.settings.begin(), options.settings.end()),
                    "[profile] expected ascending settings, got ",
                    fmt::format("{}", fmt::join(options.settings, ", ")));
  for (const double s : options.settings) {
    const bool fits =
        options.setting == Setting::kBonds ? s >= 1 && s == std::floor(s) : s > 0.0 && s <= 1.0;
    TORCH_CHECK_VALUE(
        fits, "[profile] expected ",
        options.setting == Setting::kBonds ? "whole bonds of 1 or more" : "shares in (0, 1]",
        ", got ", s);
  }
  TORCH_CHECK_VALUE(windows.dim() == 2 && windows.size(0) >= 1 && windows.size(1) >= 2 &&
                        windows.size(1) <= model.config().max_positions,
                    "[profile] expected windows [n, t] with t of 2 to ",
                    model.config().max_positions, ", got ", windows.sizes());
  find_metric(options.metric);
  const compress::Method& method = compress::find_method(options.method);
  TORCH_CHECK_VALUE(method.one_network,
                    "[profile] expected a method that makes one network of a "
                    "layer, got ",
                    options.method);
  TORCH_CHECK_VALUE(!method.needs_gradient || options.statistics != nullptr, "[profile] method ",
                    options.method, " expected gradient statistics, got none");
  for (const compress::Layer& layer : layers) {
    TORCH_CHECK_VALUE(layer.block < model.num_blocks(), "[profile] expected layers of ",
                      model.num_blocks(), " blocks, got ", layer.name);
    TORCH_CHECK_VALUE(method.any_shape || options.shape.shape_for(layer) ==
                                              tn::low_rank_shape(layer.rows, layer.cols),
                      "[profile] method ", options.method, " expected the shape (m, 1) x (1, n)");
  }
}

std::string work_fingerprint(const io::Checkpoint& checkpoint, const model::Model& model,
                             const std::vector<compress::Layer>& layers,
                             const torch::Tensor& windows, const ProfileOptions& options) {
  compress::Fingerprint hash;
  hash.add(compress::fingerprint(checkpoint));
  hash.add(fmt::format("{} {} {} {}", options.method, options.metric, options.batch,
                       c10::toString(model.dtype())));
  hash.add(fmt::format("{} {}", options.factorize.tolerance, options.factorize.ridge));
  hash.add(fmt::format("{}", options.factorize.damping));
  for (const compress::Layer& layer : layers) {
    for (const double setting : options.settings) {
      const LayerPlan plan = planned(layer, setting, options);
      hash.add(layer.name)
          .add(fmt::format("{} {}x{}@{}", plan.fixed_gauge, fmt::join(plan.shape.out_dims, ","),
                           fmt::join(plan.shape.in_dims, ","), fmt::join(plan.max_bonds, ",")));
    }
  }
  const torch::Tensor ids = windows.cpu().contiguous();
  hash.add({static_cast<const char*>(ids.const_data_ptr()), ids.nbytes()});
  if (options.statistics != nullptr) hash.add(options.statistics->fingerprint());
  return hash.hex();
}

/// The points of one rank.
class Run {
 public:
  Run(const io::Checkpoint& checkpoint, const model::Model& model, const torch::Tensor& windows,
      const ProfileOptions& options)
      : checkpoint_(checkpoint),
        model_(model),
        windows_(windows.to(model.device())),
        options_(options),
        method_(compress::find_method(options.method)),
        metric_(find_metric(options.metric)),
        rope_(model.rope(windows.size(1))),
        embedded_(model.embed(windows_)),
        reference_(final_states(model.block(0), 0, embedded_)),
        dense_(metric_.measure({model_, windows_, reference_, reference_})) {}

  double dense() const { return dense_; }

  /// `tasks` in the model's order; `done` sees each point.
  void measure(const std::vector<Task>& tasks,
               const std::function<void(const Task&, const Point&)>& done) {
    torch::Tensor hidden = embedded_;  // [windows, t, hidden] before the block at work
    size_t next = 0;
    for (int64_t block = 0; next < tasks.size(); ++block) {
      size_t end = next;
      std::set<Group> groups;
      for (; end < tasks.size() && tasks[end].plan.layer.block == block; ++end) {
        groups.insert(tasks[end].plan.layer.group());
      }
      moments_.clear();
      torch::Tensor after = pass(block, hidden, method_.needs_inputs ? groups : std::set<Group>{});
      for (; next < end; ++next) done(tasks[next], point(tasks[next], hidden));
      hidden = std::move(after);
    }
  }

 private:
  torch::Tensor batch(const torch::Tensor& all, int64_t begin) const {
    return all.narrow(0, begin, std::min(options_.batch, all.size(0) - begin));
  }

  /// The original block; its groups' inputs go into the moments.
  torch::Tensor pass(int64_t block, const torch::Tensor& hidden, const std::set<Group>& groups) {
    const auto observe = [&](Group group, const torch::Tensor& input) {
      if (!groups.contains(group)) return;
      const torch::Tensor x = input.flatten(0, -2).to(torch::kFloat32);  // [tokens, n]
      torch::Tensor& g = moments_[group];
      if (!g.defined()) g = at::zeros({x.size(1), x.size(1)}, x.options());
      g.addmm_(x.t(), x);
    };
    torch::Tensor after = at::empty_like(hidden);
    for (int64_t w = 0; w < hidden.size(0); w += options_.batch) {
      batch(after, w).copy_(model_.block(block).forward(batch(hidden, w), rope_, {}, observe));
    }
    for (auto& [group, g] : moments_) g /= static_cast<double>(windows_.numel());
    return after;
  }

  /// After the final norm [windows, t, hidden], from the states before `block`, which
  /// `changed` stands in for.
  torch::Tensor final_states(const model::Block& changed, int64_t block,
                             const torch::Tensor& hidden) const {
    torch::Tensor result = at::empty_like(hidden);
    for (int64_t w = 0; w < hidden.size(0); w += options_.batch) {
      torch::Tensor h = changed.forward(batch(hidden, w), rope_);
      for (int64_t b = block + 1; b < model_.num_blocks(); ++b) {
        h = model_.block(b).forward(h, rope_);
      }
      batch(result, w).copy_(model_.final_norm(h));
    }
    return result;
  }

  Point point(const Task& task, const torch::Tensor& hidden) {
    const LayerPlan& plan = task.plan;
    compress::LayerInputs inputs;
    if (method_.needs_inputs) inputs.moments = moments_.at(plan.layer.group());
    if (method_.needs_gradient) {
      inputs.gradient = options_.statistics->of(plan.layer).gradient;
      inputs.gradient->moments = inputs.gradient->moments.to(model_.device());
    }
    const torch::Tensor weight =
        load_weight(checkpoint_, plan.layer).to(model_.device(), torch::kFloat32);
    const compress::Factors factors = method_.factorize(weight, plan, inputs, options_.factorize);
    torch::Tensor approximation;
    Point point;
    for (const tn::Mpo& term : factors.terms) {
      const torch::Tensor dense = term.to_dense();
      approximation = approximation.defined() ? approximation + dense : dense;
      const tn::SiteShape shape{term.out_dims(), term.in_dims()};
      point.parameters += plan.fixed_gauge ? tn::gauge_fixed_parameter_count(shape, term.bonds())
                                           : tn::parameter_count(shape, term.bonds());
    }
    point.bonds = factors.terms.front().bonds();
    point.relative_error = factors.relative_error;
    point.weighted_error = factors.weighted_error;

    model::Block changed = model_.block(plan.layer.block);
    changed.replace(plan.layer.group(), projection(plan.layer, approximation));
    const torch::Tensor states = final_states(changed, plan.layer.block, hidden);
    point.value = metric_.measure({model_, windows_, states, reference_});
    point.loss = metric_.loss(point.value, dense_);
    return point;
  }

  /// The layer's group with W' in place of its weights. As a matrix: for the hundreds of
  /// rows of a text no slower than its network, and the same for every shape.
  model::ProjectionPtr projection(const compress::Layer& layer, const torch::Tensor& w) const {
    std::map<std::string, torch::Tensor> tensors;
    int64_t row = 0;
    for (const std::string& member : layer.members) {
      const std::string name = member + ".weight";
      const int64_t rows = checkpoint_.tensors().at(name).shape.front();
      tensors[name] = w.narrow(0, row, rows);
      row += rows;
    }
    return compress::load_changed_group(checkpoint_, model_.config(), layer.block, layer.group(),
                                        std::move(tensors), {}, {model_.dtype(), model_.device()});
  }

  const io::Checkpoint& checkpoint_;
  const model::Model& model_;
  torch::Tensor windows_;
  const ProfileOptions& options_;
  const compress::Method& method_;
  const Metric& metric_;
  model::RopeTable rope_;
  torch::Tensor embedded_;   // [windows, t, hidden]
  torch::Tensor reference_;  // [windows, t, hidden] of the original, after the final norm
  double dense_;
  std::map<Group, torch::Tensor> moments_;  // of the block at work, [n, n]
};

std::vector<Task> all_tasks(const std::vector<compress::Layer>& layers,
                            const ProfileOptions& options) {
  std::vector<Task> tasks;
  for (const compress::Layer& layer : layers) {
    for (const double setting : options.settings) {
      tasks.push_back({static_cast<int64_t>(tasks.size()), planned(layer, setting, options)});
    }
  }
  return tasks;
}

/// The points that rank 0 finds finished, on every rank.
ordered_json finished_points(const std::string& work, const ProfileOptions& options,
                             const fs::path& folder) {
  ordered_json finished = ordered_json::object();
  if (dist::rank() == 0) {
    PointLog::prepare(folder, work, options.force);
    for (auto& [number, point] : PointLog::read(folder)) finished[std::to_string(number)] = point;
  }
  return ordered_json::parse(dist::broadcast(finished.dump()));
}

}  // namespace

Profile measure_profile(const io::Checkpoint& checkpoint, const model::Model& model,
                        const std::vector<compress::Layer>& layers, const torch::Tensor& windows,
                        const ProfileOptions& options, const fs::path& folder,
                        const ProgressFn& progress) {
  check(model, layers, windows, options);
  const at::NoGradGuard no_grad;
  const std::vector<Task> tasks = all_tasks(layers, options);
  ordered_json points = finished_points(
      work_fingerprint(checkpoint, model, layers, windows, options), options, folder);

  std::vector<Task> mine;
  int64_t open = 0;
  for (const Task& task : tasks) {
    if (points.contains(std::to_string(task.number))) continue;
    if (open++ % dist::size() == dist::rank()) mine.push_back(task);
  }
  Run run(checkpoint, model, windows, options);
  ordered_json measured = ordered_json::object();
  {
    std::error_code ignored;  // ranks on other machines have a folder of their own
    fs::create_directories(folder, ignored);
    PointLog log(folder, dist::rank());
    run.measure(mine, [&](const Task& task, const Point& point) {
      const ordered_json entry = point_json(point);
      log.append(task.number, entry);
      measured[std::to_string(task.number)] = entry;
      if (progress) {
        progress({"profile", task.plan.layer.name, static_cast<int64_t>(measured.size()),
                  static_cast<int64_t>(mine.size()), "points"});
      }
    });
  }
  for (const std::string& text : dist::gather(measured.dump())) {
    points.update(ordered_json::parse(text));
  }

  Profile profile{compress::fingerprint(checkpoint),
                  options.metric,
                  run.dense(),
                  options.setting,
                  options.settings,
                  options.made_by,
                  {}};
  for (const Task& task : tasks) {
    if (task.number % static_cast<int64_t>(options.settings.size()) == 0) {
      LayerPlan network = task.plan;
      network.max_bonds.clear();
      profile.layers.push_back({std::move(network), {}});
    }
    profile.layers.back().points.push_back(read_point(points.at(std::to_string(task.number)),
                                                      fmt::format("points.{}", task.number), folder,
                                                      task.plan.shape));
  }
  return profile;
}

}  // namespace schmidt::profile
