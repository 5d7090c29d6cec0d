#include "schmidt/heal/run_state.h"

#include <charconv>
#include <cmath>
#include <set>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/output_place.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "state-";
constexpr const char* kValues = "values.safetensors";
constexpr const char* kMoments = "moments";
constexpr const char* kFirst = "first";
constexpr const char* kSecond = "second";
constexpr const char* kBest = "best.safetensors";

fs::path state_folder(const fs::path& folder, int64_t step) {
  return folder / fmt::format("{}{}", kPrefix, step);
}

/// Steps of the whole states in a folder, ascending.
std::set<int64_t> saved_steps(const fs::path& folder) {
  std::set<int64_t> steps;
  if (!path_exists(folder)) return steps;
  for (const fs::path& entry : folder_entries(folder)) {
    const std::string name = entry.filename();
    if (!name.starts_with(kPrefix)) continue;
    int64_t step = 0;
    const auto [end, error] =
        std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
    if (error == std::errc() && end == name.data() + name.size()) steps.insert(step);
  }
  return steps;
}

torch::Tensor read_vector(const std::map<std::string, torch::Tensor>& tensors,
                          const std::string& name, int64_t size, const fs::path& file) {
  const auto found = tensors.find(name);
  if (found == tensors.end() || found->second.sizes() != torch::IntArrayRef({size}) ||
      found->second.scalar_type() != torch::kFloat32) {
    throw FormatError(file, name, fmt::format("expected {} values in float32", size));
  }
  return found->second;
}

void write_values(const fs::path& file, const Parameters& parameters) {
  io::save_safetensors(file, {{"values", parameters.values().cpu()}});
}

void read_values(const fs::path& file, const Parameters& parameters) {
  const at::NoGradGuard no_grad;
  const torch::Tensor values = parameters.values();
  values.copy_(read_vector(io::load_safetensors(file), "values", parameters.numel(), file));
}

std::string piece_name(size_t index) { return fmt::format("{:06}.", index); }

void write_moments(const fs::path& folder, const Moments& moments) {
  std::vector<io::TensorSpec> specs;
  for (size_t i = 0; i < moments.sizes.size(); ++i) {
    for (const char* which : {kFirst, kSecond}) {
      specs.push_back({piece_name(i) + which, torch::kFloat32, {moments.sizes[i]}});
    }
  }
  io::SafetensorsWriter writer(folder, specs, {}, std::numeric_limits<uint64_t>::max());
  for (size_t i = 0; i < moments.sizes.size(); ++i) {
    const auto [first, second] = moments.piece(i);
    writer.write(piece_name(i) + kFirst, first);
    writer.write(piece_name(i) + kSecond, second);
  }
  writer.finish();
}

nlohmann::json to_json(const RunState& state) {
  nlohmann::json json = {{"step", state.step},
                         {"stream", state.stream},
                         {"before", state.before},
                         {"best_step", state.best_step},
                         {"waited", state.waited},
                         {"seconds", state.seconds},
                         {"not_finite", state.not_finite}};
  if (std::isfinite(state.best_loss)) json["best_loss"] = state.best_loss;
  return json;
}

RunState from_json(const nlohmann::json& json, const fs::path& file) {
  try {
    RunState state;
    state.step = json.at("step");
    state.stream = json.at("stream");
    state.before = json.at("before");
    state.best_loss = json.value("best_loss", state.best_loss);
    state.best_step = json.at("best_step");
    state.waited = json.at("waited");
    state.seconds = json.at("seconds");
    state.not_finite = json.at("not_finite");
    return state;
  } catch (const nlohmann::json::exception&) {
    throw FormatError(file, "state", "expected the state of a run, found another form");
  }
}

}  // namespace

bool StateStore::is_state(const fs::path& path) {
  return is_numbered(path.filename().string(), kPrefix);
}

void StateStore::save(const RunState& state, const Parameters& parameters,
                      const Moments& moments) const {
  const fs::path made = folder_ / "state.new";
  remove_tree(made);
  make_folders(made / kMoments);
  write_values(made / kValues, parameters);
  write_moments(made / kMoments, moments);
  nlohmann::json json = to_json(state);
  json["optimizer_steps"] = moments.steps;
  write_file_atomically(made / "state.json", io::json_text(json));
  const fs::path whole = state_folder(folder_, state.step);
  if (path_exists(whole)) {  // the same state: a step is saved after its evaluation or not at all
    remove_tree(made);
  } else {
    move_path(made, whole);
  }
  sync_folder(folder_);
}

void StateStore::keep_only(int64_t step) const {
  for (const int64_t other : saved_steps(folder_)) {
    if (other != step) remove_tree(state_folder(folder_, other));
  }
}

std::optional<int64_t> StateStore::last_step() const {
  const std::set<int64_t> steps = saved_steps(folder_);
  return steps.empty() ? std::nullopt : std::optional(*steps.rbegin());
}

SavedRun StateStore::load(int64_t step, const Parameters& parameters,
                          std::vector<int64_t> sizes) const {
  const fs::path folder = state_folder(folder_, step);
  const nlohmann::json json = io::read_json_object(folder / "state.json");
  SavedRun saved{from_json(json, folder / "state.json"), {}};
  read_values(folder / kValues, parameters);
  const auto piece = [sizes, file = folder / kMoments / "model.safetensors"](size_t index) {
    const auto both = io::load_safetensors(file, piece_name(index));
    const auto read = [&](const char* which) {
      return read_vector(both, piece_name(index) + which, sizes.at(index), file);
    };
    return Moments::Piece{read(kFirst), read(kSecond)};
  };
  saved.moments = {json.value("optimizer_steps", saved.state.step), std::move(sizes), piece};
  return saved;
}

void StateStore::save_best(const Parameters& parameters) const {
  write_values(folder_ / kBest, parameters);
}

bool StateStore::load_best(const Parameters& parameters) const {
  if (!path_exists(folder_ / kBest)) return false;
  read_values(folder_ / kBest, parameters);
  return true;
}

}  // namespace schmidt::heal
