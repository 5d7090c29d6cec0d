#include "schmidt/profile/sensitivity.h"

#include <cmath>
#include <map>
#include <optional>
#include <set>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/calibrate/activation_stream.h"
#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/compress/compress.h"
#include "schmidt/io/json.h"
#include "schmidt/io/record_log.h"
#include "schmidt/model/layer_kinds.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::profile {
namespace {

namespace fs = std::filesystem;
using calibrate::ActivationSpace;
using calibrate::ActivationStream;
using model::Group;
using nlohmann::ordered_json;
using plan::LayerPlan;

/// One layer at one setting; the number is its place in the profile.
struct Task {
  int64_t number;
  LayerPlan plan;
};

LayerPlan planned(const plan::Layer& layer, double setting, const ProfileOptions& options) {
  LayerPlan plan{.layer = layer, .shape = options.shape.shape_for(layer)};
  plan.method = options.method;
  plan.fixed_gauge = options.shape.fixed_gauge;
  if (options.setting == Setting::kBonds) {
    plan.max_bonds =
        plan::plan_bond({layer}, options.shape, std::llround(setting)).front().max_bonds;
  } else {
    const auto budget =
        static_cast<int64_t>(std::floor(setting * static_cast<double>(layer.numel())));
    plan.max_bonds = plan::bonds_within(plan.shape, budget, plan.fixed_gauge);
  }
  return plan;
}

void check(const model::Model& model, const std::vector<plan::Layer>& layers,
           const torch::Tensor& windows, const ProfileOptions& options) {
  check_points(layers, options);
  const Metric& metric = find_metric(options.metric);
  const compress::Method& method = compress::find_method(options.method);
  TORCH_CHECK_VALUE(metric.asks == (options.questions != nullptr), "[profile] expected questions ",
                    metric.asks ? "" : "only ", "where the metric is a task, got ", options.metric);
  if (windows.defined() || !metric.asks || method.needs_inputs) {
    TORCH_CHECK_VALUE(windows.defined() && windows.dim() == 2 && windows.size(0) >= 1 &&
                          windows.size(1) >= 2 && windows.size(1) <= model.config().max_positions,
                      "[profile] expected windows [n, t] with t of 2 to ",
                      model.config().max_positions, ", got ",
                      windows.defined() ? windows.sizes() : at::IntArrayRef());
  }
  TORCH_CHECK_VALUE(!method.needs_gradient || options.statistics != nullptr, "[profile] method ",
                    options.method, " expected gradient statistics, got none");
  for (const plan::Layer& layer : layers) {
    TORCH_CHECK_VALUE(layer.block < model.num_blocks(), "[profile] expected layers of ",
                      model.num_blocks(), " blocks, got ", layer.name);
  }
}

std::string work_fingerprint(const io::Checkpoint& checkpoint, const model::Model& model,
                             const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                             const ProfileOptions& options) {
  package::Fingerprint hash;
  hash.add(package::fingerprint(checkpoint));
  hash.add(fmt::format("{} {} {} {}", options.method, options.metric, options.batch,
                       c10::toString(model.dtype())));
  hash.add(fmt::format("{} {}", options.factorize.tolerance, options.factorize.ridge));
  hash.add(fmt::format("{} {}", options.factorize.damping, options.factorize.sites));
  for (const plan::Layer& layer : layers) {
    for (const double setting : options.settings) {
      const LayerPlan plan = planned(layer, setting, options);
      hash.add(layer.name)
          .add(fmt::format("{} {}x{}@{}", plan.fixed_gauge, fmt::join(plan.shape.out_dims, ","),
                           fmt::join(plan.shape.in_dims, ","), fmt::join(plan.max_bonds, ",")));
    }
  }
  if (windows.defined()) hash.add(windows);
  if (options.questions != nullptr) {
    for (const torch::Tensor& ids : options.questions->batches()) hash.add(ids);
    hash.add(fmt::format("{}", fmt::join(options.questions->answers(), ",")));
  }
  if (options.statistics != nullptr) hash.add(options.statistics->fingerprint());
  return hash.hex();
}

/// Longest row.
int64_t longest(const Batches& ids) {
  int64_t t = 0;
  for (const torch::Tensor& batch : ids) t = std::max(t, batch.size(1));
  return t;
}

/// Of all batches: every rank reads the whole text.
calibrate::TextBatches all_of(const Batches& ids) {
  calibrate::TextBatches batches;
  for (const torch::Tensor& batch : ids) {
    batches.own.push_back(static_cast<int64_t>(batches.shapes.size()));
    batches.shapes.push_back({batch.size(0), batch.size(1)});
  }
  return batches;
}

/// The points of one rank.
class Run {
 public:
  /// What does not fit in memory goes to `folder`, which is this rank's own.
  Run(const io::Checkpoint& checkpoint, const model::Model& model, const torch::Tensor& windows,
      const ProfileOptions& options, const fs::path& folder)
      : checkpoint_(checkpoint),
        model_(model),
        options_(options),
        folder_(folder),
        method_(compress::find_method(options.method)),
        metric_(find_metric(options.metric)),
        text_(windows.defined() ? on_device(windows.split(options.batch)) : Batches{}),
        ids_(metric_.asks ? on_device(options.questions->batches()) : text_),
        rope_(model.rope(std::max(longest(text_), longest(ids_)))),
        space_(all_of(ids_), folder, model.dtype(), model.device(), options.activations.memory),
        embedded_(embedded(ids_, space_)),
        reference_(final_states(embedded_)),
        dense_(metric_.measure({model_, ids_, reference_, reference_, options.questions})) {}

  double dense() const { return dense_; }

  /// `tasks` in the model's order; `done` sees each point.
  void measure(const std::vector<Task>& tasks,
               const std::function<void(const Task&, const Point&)>& done) {
    ActivationStream hidden = std::move(embedded_);  // [b, t, hidden] before the block at work
    // The same of the text, where it is not what is measured on.
    std::optional<ActivationSpace> text_space;
    std::optional<ActivationStream> text;
    if (metric_.asks && sees_inputs()) {
      text_space.emplace(all_of(text_), folder_ / "text", model_.dtype(), model_.device(),
                         options_.activations.memory);
      text = embedded(text_, *text_space);
    }
    size_t next = 0;
    for (int64_t block = 0; next < tasks.size(); ++block) {
      size_t end = next;
      std::set<Group> groups;
      for (; end < tasks.size() && tasks[end].plan.layer.block == block; ++end) {
        groups.insert(tasks[end].plan.layer.group());
      }
      if (!sees_inputs()) groups.clear();
      moments_.clear();
      if (text) text = pass(block, *text_space, *text, groups);
      ActivationStream after =
          pass(block, space_, hidden, metric_.asks ? std::set<Group>{} : groups);
      for (; next < end; ++next) done(tasks[next], point(tasks[next], hidden));
      prefix_ = {};
      hidden = std::move(after);
    }
  }

 private:
  /// Statistics hold the inputs' moments. Where text is read anyway, every method's error on the
  /// inputs is told.
  bool sees_inputs() const {
    return options_.statistics == nullptr && (method_.needs_inputs || !metric_.asks);
  }

  Batches on_device(const std::vector<torch::Tensor>& ids) const {
    Batches moved;
    for (const torch::Tensor& batch : ids) moved.push_back(batch.to(model_.device()));
    return moved;
  }

  ActivationStream embedded(const Batches& ids, const ActivationSpace& space) const {
    ActivationStream hidden = make(space, "residual.0");
    for (size_t b = 0; b < ids.size(); ++b) {
      hidden.write(static_cast<int64_t>(b), model_.embed(ids[b]));
    }
    return hidden;
  }

  ActivationStream make(const ActivationSpace& space, const std::string& name) const {
    return space.make(name, model_.config().hidden_size);
  }

  /// The original block; its groups' inputs go into the moments.
  ActivationStream pass(int64_t block, const ActivationSpace& space, const ActivationStream& hidden,
                        const std::set<Group>& groups) {
    int64_t tokens = 0;
    ActivationStream after = make(space, fmt::format("residual.{}", block + 1));
    for (const int64_t b : space.batches().own) {
      const torch::Tensor h = hidden.read(b);
      model::BlockPass at = model_.block(block).begin(h, rope_);
      for (; at.group(); at.apply()) {
        if (groups.contains(*at.group())) add_moments(*at.group(), at.input());
      }
      after.write(b, at.residual());
      tokens += h.size(0) * h.size(1);
    }
    if (!groups.empty()) {
      for (auto& [group, g] : moments_) g /= static_cast<double>(tokens);
    }
    return after;
  }

  void add_moments(Group group, const torch::Tensor& input) {
    const torch::Tensor x = input.flatten(0, -2).to(torch::kFloat32);  // [tokens, n]
    torch::Tensor& g = moments_[group];
    if (!g.defined()) g = at::zeros({x.size(1), x.size(1)}, x.options());
    g.addmm_(x.t(), x);
  }

  /// After the final norm, from the states h [b, t, hidden] before `block`.
  torch::Tensor final_state(int64_t block, torch::Tensor h) const {
    for (int64_t b = block; b < model_.num_blocks(); ++b) h = model_.block(b).forward(h, rope_);
    return model_.final_norm(h);
  }

  ActivationStream final_states(const ActivationStream& hidden) const {
    ActivationStream states = make(space_, "reference");
    for (const int64_t b : space_.batches().own) states.write(b, final_state(0, hidden.read(b)));
    return states;
  }

  /// The original up to the inputs of a group, once for all points of its layers.
  void read_up_to(int64_t block, Group group, const ActivationStream& hidden) {
    if (prefix_.block == block && prefix_.group == group) return;
    prefix_ = {};  // its memory, before more of it is asked for
    const int64_t width = model::group_layers(model_.config(), block, group).front().in_features;
    prefix_ = {block,
               group,
               make(space_, "halted.residual"),
               space_.make("halted.input", width),
               std::nullopt,
               std::nullopt};
    if (group.expert) prefix_.mixed = make(space_, "halted.mixed");
    if (group.expert.value_or(0) > 0) prefix_.sum = make(space_, "halted.sum");
    for (const int64_t b : space_.batches().own) {
      model::BlockPass at = model_.block(block).begin(hidden.read(b), rope_);
      at.apply_until(group);
      prefix_.residual.write(b, at.residual());
      prefix_.input.write(b, at.input());
      if (prefix_.mixed) prefix_.mixed->write(b, at.state().mixed);
      if (prefix_.sum) prefix_.sum->write(b, at.state().sum);
    }
  }

  /// What the model makes of it with `changed` in place of that group.
  ActivationStream states_with(const model::Projection& changed) const {
    ActivationStream states = make(space_, "changed");
    for (const int64_t b : space_.batches().own) {
      model::BlockState state{prefix_.group, prefix_.residual.read(b), prefix_.input.read(b)};
      if (prefix_.mixed) state.mixed = prefix_.mixed->read(b);
      if (prefix_.sum) state.sum = prefix_.sum->read(b);
      model::BlockPass at = model_.block(prefix_.block).resume(std::move(state), rope_);
      at.apply(changed);
      states.write(b, final_state(prefix_.block + 1, at.finish()));
    }
    return states;
  }

  Point point(const Task& task, const ActivationStream& hidden) {
    const LayerPlan& plan = task.plan;
    compress::LayerInputs inputs;
    if (sees_inputs()) inputs.moments = moments_.at(plan.layer.group());
    if (options_.statistics != nullptr) {
      inputs.moments = options_.statistics->inputs(plan.layer).to(model_.device());
      inputs.gradient = options_.statistics->of(plan.layer).gradient.to(model_.device());
    }
    const torch::Tensor weight =
        load_weight(checkpoint_, plan.layer).to(model_.device(), torch::kFloat32);
    const compress::FittedWeight fitted =
        compress::fit_layer(method_, weight, plan, inputs, options_.factorize);
    const std::string& name = plan.layer.name;
    const torch::Tensor approximation =
        model::unfold_weight({name, plan.layer.rows, plan.layer.cols}, fitted.weight);
    Point point;
    point.parameters = compress::stored_parameters(name, fitted.weight, plan.fixed_gauge);
    const auto networks = model::describe_weight(name, fitted.weight).networks;
    point.bonds =
        method_.one_network && networks.size() == 1 ? networks.front().bonds : plan.max_bonds;
    point.relative_error = fitted.relative_error;
    point.weighted_error = fitted.weighted_error;

    const model::ProjectionPtr changed = projection(plan.layer, approximation);
    read_up_to(plan.layer.block, plan.layer.group(), hidden);
    const ActivationStream states = states_with(*changed);
    point.value = metric_.measure({model_, ids_, states, reference_, options_.questions});
    point.loss = metric_.loss(point.value, dense_);
    return point;
  }

  /// The layer's group with W' in place of its weights. As a matrix: for the hundreds of
  /// rows of a text no slower than its network, and the same for every shape.
  model::ProjectionPtr projection(const plan::Layer& layer, const torch::Tensor& w) const {
    std::map<std::string, torch::Tensor> tensors;
    int64_t row = 0;
    for (const std::string& member : layer.members) {
      const std::string name = member + ".weight";
      const int64_t rows = checkpoint_.tensors().at(name).shape.front();
      tensors[name] = w.narrow(0, row, rows);
      row += rows;
    }
    return calibrate::load_changed_group(checkpoint_, model_.config(), layer.block, layer.group(),
                                         std::move(tensors), {}, {model_.dtype(), model_.device()});
  }

  const io::Checkpoint& checkpoint_;
  const model::Model& model_;
  const ProfileOptions& options_;
  fs::path folder_;
  const compress::Method& method_;
  const Metric& metric_;
  Batches text_, ids_;  // int64 [b, t]: windows, and what the metric is measured on
  model::RopeTable rope_;
  ActivationSpace space_;       // of the ids
  ActivationStream embedded_;   // [b, t, hidden]
  ActivationStream reference_;  // [b, t, hidden] of the original, after the final norm
  double dense_;
  std::map<Group, torch::Tensor> moments_;  // of the block at work, [n, n]

  /// Where the group at work begins.
  struct Prefix {
    int64_t block = -1;
    Group group = Group::kQkv;
    ActivationStream residual;                   // [b, t, hidden]
    ActivationStream input;                      // [b, t, n]
    std::optional<ActivationStream> mixed, sum;  // [b, t, hidden], see model::BlockState
  };
  Prefix prefix_;
};

std::vector<Task> all_tasks(const std::vector<plan::Layer>& layers, const ProfileOptions& options) {
  std::vector<Task> tasks;
  for (const plan::Layer& layer : layers) {
    for (const double setting : options.settings) {
      tasks.push_back({static_cast<int64_t>(tasks.size()), planned(layer, setting, options)});
    }
  }
  return tasks;
}

/// The points that rank 0 finds finished, on every rank.
ordered_json finished_points(const fs::path& folder) {
  ordered_json finished = ordered_json::object();
  if (parallel::rank() == 0) {
    for (auto& [number, point] : io::RecordLog::read(folder))
      finished[std::to_string(number)] = point;
  }
  return ordered_json::parse(parallel::broadcast(io::json_text(finished)));
}

}  // namespace

void check_points(const std::vector<plan::Layer>& layers, const ProfileOptions& options) {
  TORCH_CHECK_VALUE(!layers.empty() && !options.settings.empty(),
                    "[profile] expected layers and settings, got none");
  TORCH_CHECK_VALUE(std::is_sorted(options.settings.begin(), options.settings.end()),
                    "[profile] expected ascending settings, got ",
                    fmt::format("{}", fmt::join(options.settings, ", ")));
  const bool bonds = options.setting == Setting::kBonds;
  for (const double s : options.settings) {
    const bool fits = bonds ? s >= 1 && s == std::floor(s) : s > 0.0 && s <= 1.0;
    TORCH_CHECK_VALUE(fits, "[profile] expected ",
                      bonds ? "whole bonds of 1 or more" : "shares in (0, 1]", ", got ", s);
  }
  const compress::Method& method = compress::find_method(options.method);
  TORCH_CHECK_VALUE(method.one_network || !bonds, "[profile] method ", options.method,
                    " expected shares of the parameters to keep, got bonds");
  std::vector<LayerPlan> plans;
  for (const plan::Layer& layer : layers) {
    for (const double s : options.settings) plans.push_back(planned(layer, s, options));
  }
  compress::check_plan(plans, options.factorize);
}

Profile measure_profile(const io::Checkpoint& checkpoint, const model::Model& model,
                        const std::vector<plan::Layer>& layers, const torch::Tensor& windows,
                        const ProfileOptions& options, const fs::path& folder,
                        const ProgressFn& progress) {
  check(model, layers, windows, options);
  const at::NoGradGuard no_grad;
  const std::vector<Task> tasks = all_tasks(layers, options);
  std::optional<WorkFolder> work;
  if (parallel::rank() == 0) {
    work.emplace(io::RecordLog::prepare(
        folder, work_fingerprint(checkpoint, model, layers, windows, options),
        "profile of another model, text or recipe", options.force));
  }
  ordered_json points = finished_points(folder);

  std::vector<Task> mine;
  int64_t open = 0;
  for (const Task& task : tasks) {
    if (points.contains(std::to_string(task.number))) continue;
    if (open++ % parallel::size() == parallel::rank()) mine.push_back(task);
  }
  const fs::path activations = folder / fmt::format("activations.{}", parallel::rank());
  Run run(checkpoint, model, windows, options, activations);
  ordered_json measured = ordered_json::object();
  {
    std::error_code ignored;  // ranks on other machines have a folder of their own
    fs::create_directories(folder, ignored);
    io::RecordLog log(folder, parallel::rank());
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
  for (const std::string& text : parallel::gather(io::json_text(measured))) {
    points.update(ordered_json::parse(text));
  }

  Profile profile{package::fingerprint(checkpoint),
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
