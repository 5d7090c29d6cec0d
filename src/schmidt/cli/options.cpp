#include "schmidt/cli/options.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <cstdlib>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include "schmidt/kernels/processor.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::cli {
namespace {

// `expected` reads like "above 0".
CLI::Validator number(bool (*is_valid)(double), const char* expected, const char* name) {
  const auto check = [=](const std::string& text) {
    double value = 0.0;
    const bool is_number = CLI::detail::lexical_cast(text, value);
    if (is_number && std::isfinite(value) && is_valid(value)) return std::string();
    return fmt::format("expected a number {}, got {}", expected, text.substr(0, 40));
  };
  return CLI::Validator(check, name);
}

}  // namespace

const CLI::Validator kPositive =
    number([](double value) { return value > 0.0; }, "above 0", "POSITIVE");
const CLI::Validator kNonNegative =
    number([](double value) { return value >= 0.0; }, "of 0 or more", "NONNEGATIVE");

CLI::Validator named(const std::vector<std::string>& names) {
  return {[](std::string&) { return std::string(); }, CLI::detail::generate_set(names)};
}

void add_model_argument(CLI::App& verb, std::string& model, const std::string& also) {
  verb.add_option(
          "MODEL", model,
          "Hugging Face folder, .gguf file, or id (ORG/NAME) of a model in the local cache" + also)
      ->type_name(kModelValue)
      ->required();
}

torch::Device CommonOptions::torch_device() const {
  if (device != "cuda") return torch::Device(device);
  // The ranks on a machine take its GPUs in turn.
  static const int64_t place = parallel::place_on_machine();
  const auto gpus = static_cast<int64_t>(torch::cuda::device_count());
  return {torch::kCUDA, static_cast<c10::DeviceIndex>(gpus == 0 ? 0 : place % gpus)};
}

torch::ScalarType CommonOptions::torch_dtype(torch::ScalarType fallback) const {
  if (dtype.empty()) return fallback;
  return dtype == "bfloat16" ? torch::kBFloat16 : torch::kFloat32;
}

torch::ScalarType CommonOptions::calibration_dtype() const {
  return dtype == "bfloat16" ? fastest_dtype(torch_device()) : torch::kFloat32;
}

torch::ScalarType fastest_dtype(const torch::Device& device) {
  const auto answers = parallel::gather(kernels::multiplies_bfloat16(device) ? "yes" : "no");
  const bool all = std::ranges::all_of(answers, [](const std::string& a) { return a == "yes"; });
  return all ? torch::kBFloat16 : torch::kFloat32;
}

void check_whole_numbers(CLI::App& verb) {
  const auto refuse = [](bool is_signed) {
    return [is_signed](const std::string& value) {
      const size_t first = value.find_first_not_of("+-");
      if (first != value.npos && value[first] == '0' && first + 1 < value.size() &&
          std::isdigit(static_cast<unsigned char>(value[first + 1])) != 0) {
        return fmt::format("Value {} begins with a zero; expected decimal digits", value);
      }
      errno = 0;
      if (is_signed) {
        std::strtoll(value.c_str(), nullptr, 0);
      } else {
        std::strtoull(value.c_str(), nullptr, 0);
      }
      return errno == ERANGE ? fmt::format("Value {} does not fit 64 bits", value) : std::string();
    };
  };
  for (CLI::Option* option : verb.get_options()) {
    const std::string type = option->get_type_name();
    if (type.starts_with("INT")) option->check(refuse(true));
    if (type.starts_with("UINT")) option->check(refuse(false));
  }
}

void add_common_options(CLI::App& verb, CommonOptions& options) {
  const char* group = kCommonGroup;
  verb.add_flag("--json", options.json, "Print one JSON object")->group(group);
  verb.add_option("--device", options.device, "Where to compute")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->group(group);
  verb.add_option("--dtype", options.dtype, "Number format of the computation")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->group(group);
  verb.add_option("--threads", options.threads, "CPU threads (0: one for each core)")
      ->check(CLI::Range(0, 4096))
      ->group(group);
  verb.add_option("--seed", options.seed, "Seed of everything that is random")->group(group);
  verb.add_flag("-q,--quiet", options.quiet, "No progress and no notes")->group(group);
  verb.add_flag("-v,--verbose", options.verbose, "Also print what the program runs on")
      ->group(group);
}

void apply_common_options(const CommonOptions& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  TORCH_CHECK_VALUE(
      options.device != "cuda" || at::globalContext().hasCUDA(),
      "[device] expected a LibTorch with CUDA and a GPU for --device cuda, found none");
  if (!options.verbose || options.quiet) return;
  fmt::print(stderr, "schmidt {}, LibTorch {}, CPU with {}, {} threads, device {}, seed {}\n",
             SCHMIDT_VERSION, TORCH_VERSION, at::get_cpu_capability(), at::get_num_threads(),
             options.device, options.seed);
}

}  // namespace schmidt::cli
