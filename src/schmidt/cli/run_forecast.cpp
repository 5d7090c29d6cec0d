#include "schmidt/cli/run_forecast.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <set>
#include <system_error>

#include <ATen/Context.h>
#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/cli/child_program.h"
#include "schmidt/cli/interrupted.h"
#include "schmidt/cli/options.h"
#include "schmidt/cli/sizes.h"
#include "schmidt/compress/learned_rounding.h"
#include "schmidt/compress/methods.h"
#include "schmidt/kernels/product_speed.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/stored_specs.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;
using pipeline::ModelForecast;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "schmidt-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw SystemError("cannot make folder", name, errno);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

bool has(const StageCommand& stage, const char* option) { return !stage.given(option).empty(); }

/// What was given for an option, or its default.
std::string text_of(const StageCommand& stage, const char* option) {
  const std::vector<std::string> given = stage.given(option);
  if (!given.empty()) return given.front();
  const CLI::Option* known = stage.parsed->get_option_no_throw(option);
  return known == nullptr ? "" : known->get_default_str();
}

double number_of(const StageCommand& stage, const char* option) {
  return std::strtod(text_of(stage, option).c_str(), nullptr);
}

int64_t integer_of(const StageCommand& stage, const char* option) {
  return static_cast<int64_t>(number_of(stage, option));
}

std::optional<torch::ScalarType> dtype_given(const StageCommand& stage) {
  if (!has(stage, "--dtype")) return std::nullopt;
  return text_of(stage, "--dtype") == "bfloat16" ? torch::kBFloat16 : torch::kFloat32;
}

torch::Device device_of(const StageCommand& stage) {
  return torch::Device(has(stage, "--device") ? text_of(stage, "--device") : "cpu");
}

class Forecaster {
 public:
  Forecaster(const std::vector<StageCommand>& stages, const std::vector<bool>& finished,
             KnownModels& models)
      : stages_(stages), finished_(finished), models_(models), made_(stages.size()) {}

  StageForecast next(size_t index) {
    const StageCommand& stage = stages_[index];
    const std::string_view verb = stage.verb->name;
    if (finished_[index]) {
      if (writes_model(stage)) made_[index] = pipeline::forecast_of(models_.at(stage.result));
      return {};
    }
    if (verb == "plan") {
      plan_ahead(index);
      return {};
    }
    StageForecast forecast;
    const std::optional<ModelForecast> model = input(stage, "model");
    check_context(stage);
    const std::optional<ModelForecast> other =
        input(stage, verb == "heal" ? "teacher" : "reference");
    if (verb == "compress") forecast.bytes = bytes_asked(stage, model);
    if (model) {
      made_[index] = made_of(stage, *model);
      const bool has_device = device_of(stage).is_cpu() || at::globalContext().hasCUDA();
      const auto flops = flops_of(stage, *model, other);
      if (flops && has_device) {
        forecast.seconds = *flops / speed_on(device_of(stage));
      }
    }
    if (made_[index]) forecast.bytes = made_[index]->bytes;
    forecast.memory = memory_of(stage, model, other);
    return forecast;
  }

 private:
  static bool writes_model(const StageCommand& stage) {
    return is_folder(stage.result) && path_exists(stage.result / "config.json");
  }

  const StageInput* input_named(const StageCommand& stage, const std::string& option) const {
    const auto found = std::ranges::find(stage.inputs, option, &StageInput::option);
    return found == stage.inputs.end() ? nullptr : &*found;
  }

  std::optional<ModelForecast> model_at(const StageInput& from) {
    if (from.stage >= 0) return made_[static_cast<size_t>(from.stage)];
    return pipeline::forecast_of(models_.at(from.path));
  }

  /// Of windows or prompts that are longer than a model reads.
  void check_context(const StageCommand& stage) {
    int64_t asked = 0;
    if (stage.verb->name == std::string_view("eval") && !has(stage, "--tasks")) {
      asked = integer_of(stage, "--context");
    }
    if (stage.verb->name == std::string_view("bench")) {
      asked = std::max(integer_of(stage, "--n-prompt"), integer_of(stage, "--n-gen"));
    }
    if (asked == 0) return;
    for (const StageInput& from : stage.inputs) {
      if (from.kind != ValueKind::kModel) continue;
      const std::optional<ModelForecast> model = model_at(from);
      TORCH_CHECK_VALUE(!model || asked <= model->outline.config.max_positions,
                        "expected tokens within the model's ",
                        model ? model->outline.config.max_positions : 0, " positions, got ", asked);
    }
  }

  /// None where it is not given, or not known.
  std::optional<ModelForecast> input(const StageCommand& stage, const std::string& option) {
    const StageInput* const from = input_named(stage, option);
    return from == nullptr ? std::nullopt : model_at(*from);
  }

  /// A budget of bytes, which the result keeps to.
  static std::optional<double> bytes_asked(const StageCommand& stage,
                                           const std::optional<ModelForecast>& model) {
    if (has(stage, "--size")) return parse_size(text_of(stage, "--size"));
    if (!has(stage, "--bits-per-weight") || !model) return std::nullopt;
    return number_of(stage, "--bits-per-weight") / 8.0 *
           static_cast<double>(model->outline.parameters);
  }

  /// The model that a stage writes.
  std::optional<ModelForecast> made_of(const StageCommand& stage, const ModelForecast& model) {
    const std::string_view verb = stage.verb->name;
    if (verb == "compress") return compressed(stage, model);
    if (verb == "quantize") return quantized(stage, model);
    if (verb == "heal") return model;  // its parameters have other values
    if (verb != "export") return std::nullopt;
    const std::string to = text_of(stage, "--to");
    if (to == "transformers") return model;
    if (to == "dense" && dtype_given(stage)) {
      plan::Outline dense = model.outline;
      if (has(stage, "--rotate")) dense.config.tie_embeddings = false;
      if (!dense.config.experts) {  // pruned MLPs are filled up to the largest
        std::ranges::fill(dense.config.mlp_sizes, std::ranges::max(dense.config.mlp_sizes));
      }
      dense.tensors = plan::dense_tensors(dense.config);
      return pipeline::forecast_compressed({dense, 0.0, std::nullopt}, {}, dtype_given(stage));
    }
    return std::nullopt;
  }

  std::optional<ModelForecast> compressed(const StageCommand& stage, const ModelForecast& model) {
    if (const StageInput* const plan = input_named(stage, "plan")) {
      const auto ahead = plans_.find(plan->stage);
      const fs::path file = ahead == plans_.end() ? plan->path : ahead->second;
      if (!path_exists(file)) return std::nullopt;
      const plan::PlanFile read = plan::read_plan(file, model.outline);
      const auto prunes = [](const plan::LayerPlan& p) { return p.neurons.has_value(); };
      if (!read.pruning.empty() || std::ranges::any_of(read.layers, prunes)) return std::nullopt;
      std::optional<torch::ScalarType> dtype = dtype_given(stage);
      if (!dtype && !read.dtype.empty()) {
        dtype = read.dtype == "float32" ? torch::kFloat32 : torch::kBFloat16;
      }
      return pipeline::forecast_compressed(model, read.layers, dtype);
    }
    for (const char* option :
         {"--recipe", "--size", "--bits-per-weight", "--layers", "--out-dims", "--share-inputs"}) {
      if (has(stage, option)) return std::nullopt;
    }
    if (text_of(stage, "--mlp") == "neurons") return std::nullopt;
    if (has(stage, "--keep") == has(stage, "--bond")) return std::nullopt;
    std::string method = text_of(stage, "--method");
    if (method.empty()) method = has(stage, "--keep") ? "fisher" : "tt-svd";
    const compress::Method& known = compress::find_method(method);
    const std::string shape = text_of(stage, "--shape");
    pipeline::PlanRecipe recipe;
    recipe.shape.sites = integer_of(stage, "--sites");
    recipe.shape.fixed_gauge = text_of(stage, "--gauge") != "full";
    recipe.shape.low_rank =
        shape == "low-rank" || (shape.empty() && (!known.any_shape || known.needs_gradient));
    recipe.ignore = stage.given("--ignore");
    if (recipe.ignore.empty()) recipe.ignore = {known.needs_inputs ? "none" : "L7"};
    std::vector<plan::LayerPlan> plan;
    if (has(stage, "--keep")) {
      recipe.keep = number_of(stage, "--keep");
      plan = pipeline::predict_plan(model.outline, recipe).file.layers;
    } else {
      std::vector<plan::Layer> layers = model.outline.layers;
      std::erase_if(
          layers, [&](const plan::Layer& layer) { return pipeline::named(recipe.ignore, layer); });
      plan = plan::plan_bond(layers, recipe.shape, integer_of(stage, "--bond"));
    }
    return pipeline::forecast_compressed(model, plan, dtype_given(stage));
  }

  static std::optional<ModelForecast> quantized(const StageCommand& stage,
                                                const ModelForecast& model) {
    pipeline::QuantizeRecipe recipe;
    recipe.bits = static_cast<int>(integer_of(stage, "--bits"));
    recipe.group = integer_of(stage, "--group");
    recipe.symmetric = text_of(stage, "--scheme") == "symmetric";
    recipe.nf4 = text_of(stage, "--scheme") == "nf4";
    const int64_t vocabulary = integer_of(stage, "--embedding-bits");
    if (vocabulary != 16) recipe.vocabulary_bits = static_cast<int>(vocabulary);
    recipe.selection.include = stage.given("--layers");
    return pipeline::forecast_quantized(model, recipe);
  }

  double speed_on(const torch::Device& device) {
    double& speed = speeds_[device.str()];
    if (speed == 0.0) speed = kernels::measure_product_speed(device);
    return speed;
  }

  /// Operations in products: what other work takes, search and files, comes on top.
  std::optional<double> flops_of(const StageCommand& stage, const ModelForecast& model,
                                 const std::optional<ModelForecast>& other) {
    const std::string_view verb = stage.verb->name;
    if (!model.multiplications || (other && !other->multiplications)) return std::nullopt;
    const double token = *model.multiplications, beside = other ? *other->multiplications : 0.0;
    if (verb == "heal") return tokens_given(stage, "--tokens") * (6.0 * token + 2.0 * beside);
    if (verb == "sample") return tokens_given(stage, "--tokens") * 2.0 * token;
    if (verb == "compress" || verb == "quantize") return fitting_flops(stage, model);
    if (verb != "eval" || has(stage, "--tasks")) return std::nullopt;
    const std::optional<double> tokens = tokens_read(stage);
    return tokens ? std::optional(*tokens * 2.0 * (token + beside)) : std::nullopt;
  }

  static double tokens_given(const StageCommand& stage, const char* option) {
    return static_cast<double>(parse_token_count(text_of(stage, option)));
  }

  /// Of all texts of an evaluation; none where one is longer than is known.
  std::optional<double> tokens_read(const StageCommand& stage) const {
    const auto most = static_cast<double>(integer_of(stage, "--max-tokens"));
    double tokens = 0.0;
    for (const std::string& text : stage.given("--text")) {
      double length = text == "self" ? tokens_given(stage, "--self-tokens") : 0.0;
      for (const StageInput& from : stage.inputs) {
        if (from.option != "text" || from.path != text || from.stage < 0) continue;
        length = tokens_given(stages_[static_cast<size_t>(from.stage)], "--tokens");
      }
      if (length == 0.0) length = most;
      if (length == 0.0) return std::nullopt;
      tokens += most > 0.0 ? std::min(most, length) : length;
    }
    return tokens;
  }

  /// Of calibration, as far as no stage before it has measured the same, and of learned rounding.
  std::optional<double> fitting_flops(const StageCommand& stage, const ModelForecast& model) {
    const bool compresses = stage.verb->name == std::string_view("compress");
    const bool has_budget = has(stage, "--size") || has(stage, "--bits-per-weight");
    std::string method = text_of(stage, "--method");
    if (method.empty() && compresses) {
      if (has(stage, "--bond") || has(stage, "--plan") || has(stage, "--speedup")) return {};
      method = has_budget ? "learned" : "fisher";
    } else if (method.empty()) {
      const bool is_near = integer_of(stage, "--bits") == 8 || text_of(stage, "--scheme") == "nf4";
      method = is_near ? "nearest" : "learned";
    }
    const compress::Method& known = compress::find_method(method);
    if (!known.needs_inputs && !known.needs_gradient) return std::nullopt;
    const double tokens = tokens_given(stage, "--calibration-tokens");
    double flops = 0.0;
    const std::string statistics = text_of(stage, "--statistics");
    const bool is_measured =
        !statistics.empty() && (path_exists(statistics) || !statistics_.insert(statistics).second);
    const auto per_token = pipeline::calibration_flops(model, known.needs_gradient || has_budget);
    if (!is_measured) flops += tokens * per_token.value_or(0.0);
    if (known.reads(compress::MethodSetting::kSteps)) {
      const double rows = static_cast<double>(compress::LearningOptions().rows);
      flops += number_of(stage, "--steps") * rows * number_of(stage, "--calibration-context") *
               6.0 * *model.multiplications;
    }
    return flops > 0.0 ? std::optional(flops) : std::nullopt;
  }

  /// Of the verbs that hold whole models; others hold a part of one at a time.
  std::optional<double> memory_of(const StageCommand& stage,
                                  const std::optional<ModelForecast>& model,
                                  const std::optional<ModelForecast>& other) {
    const std::string_view verb = stage.verb->name;
    const torch::ScalarType dtype = dtype_given(stage).value_or(torch::kFloat32);
    if (verb == "bench") return bench_memory(stage, dtype);
    if (!model) return std::nullopt;
    const double loaded = pipeline::loaded_bytes(model->outline, dtype);
    if (verb == "profile" || verb == "sample") return loaded;
    if (verb == "eval") {
      if (has(stage, "--reference") && !other) return std::nullopt;
      const double beside = other ? pipeline::loaded_bytes(other->outline, dtype) : 0.0;
      return has(stage, "--tasks") ? std::max(loaded, beside) : loaded + beside;
    }
    if (verb == "heal") {
      if (has(stage, "--teacher") && !other) return std::nullopt;
      return pipeline::healing_bytes(model->outline, other ? &other->outline : nullptr,
                                     dtype_given(stage).value_or(fastest_dtype(device_of(stage))));
    }
    return std::nullopt;
  }

  std::optional<double> bench_memory(const StageCommand& stage, torch::ScalarType dtype) {
    double bytes = 0.0;
    const int64_t tokens = integer_of(stage, "--batch") *
                           std::max(integer_of(stage, "--n-prompt"), integer_of(stage, "--n-gen"));
    for (const StageInput& from : stage.inputs) {
      const std::optional<ModelForecast> model = model_at(from);
      if (!model) return std::nullopt;
      bytes += pipeline::loaded_bytes(model->outline, dtype);
      bytes += plan::kv_cache_bytes(model->outline.config, tokens,
                                    static_cast<double>(c10::elementSize(dtype)));
    }
    return bytes;
  }

  void plan_ahead(size_t index) {
    const StageCommand& stage = stages_[index];
    const bool waits = std::ranges::any_of(stage.inputs, [&](const StageInput& from) {
      return from.stage >= 0 && !finished_[static_cast<size_t>(from.stage)];
    });
    // By statistics it takes a while, and they may be another stage's.
    if (waits || has(stage, "--statistics")) return;
    if (!folder_) folder_.emplace();
    const fs::path file = folder_->path() / fmt::format("{}.json", index);
    std::vector<std::string> arguments = {stage.verb->name};
    for (const std::string& argument : stage.arguments) {
      if (!argument.starts_with("--out=")) arguments.push_back(argument);
    }
    if (!has(stage, "--tflops")) arguments.emplace_back("--tflops=1");  // nobody reads the time
    arguments.insert(arguments.end(), {"--out=" + file.string(), "--quiet"});
    const ChildEnd end = run_this_program(arguments);
    if (end.stopped_by != 0) throw Interrupted(end.stopped_by, "stopped before anything was done");
    if (end.code != 0) throw FailedStage(end.code);
    if (end.killed_by == 0) plans_[static_cast<int>(index)] = file;
  }

  const std::vector<StageCommand>& stages_;
  const std::vector<bool>& finished_;
  KnownModels& models_;
  std::vector<std::optional<ModelForecast>> made_;  ///< by each stage
  std::map<int, fs::path> plans_;                   ///< that were made ahead, by stage
  std::optional<TemporaryFolder> folder_;
  std::map<std::string, double> speeds_;  ///< of products, by device
  std::set<std::string> statistics_;      ///< folders that stages will have filled
};

}  // namespace

const plan::Outline& KnownModels::at(const fs::path& path) {
  const auto found = outlines_.find(path);
  if (found != outlines_.end()) return found->second;
  return outlines_.emplace(path, plan::open_outline(path)).first->second;
}

const std::string& KnownModels::identity(const fs::path& path) {
  const auto [known, is_new] = identities_.try_emplace(path);
  if (const plan::Outline& model = at(path); is_new && model.fingerprint) {
    known->second = *model.fingerprint + package::fingerprint_beside_weights(path);
  }
  return known->second;
}

std::vector<StageForecast> forecast_run(const fs::path& recipe,
                                        const std::vector<StageCommand>& stages,
                                        const std::vector<bool>& finished, KnownModels& models) {
  Forecaster forecaster(stages, finished, models);
  std::vector<StageForecast> forecasts;
  for (size_t i = 0; i < stages.size(); ++i) {
    try {
      forecasts.push_back(forecaster.next(i));
    } catch (const c10::ValueError& error) {
      TORCH_CHECK_VALUE(false, recipe.string(), ": ", pipeline::place_text(stages[i].place),
                        ": stage \"", stages[i].name, "\": ", error.what_without_backtrace());
    }
  }
  return forecasts;
}

}  // namespace schmidt::cli
