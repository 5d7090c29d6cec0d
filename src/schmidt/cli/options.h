#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <torch/types.h>

namespace schmidt::cli {

/// Options that every verb takes.
struct CommonOptions {
  bool json = false;           ///< one JSON object on stdout instead of text
  std::string device = "cpu";  ///< "cpu" or "cuda"
  std::string dtype;           ///< "float32", "bfloat16", or empty: the verb's default
  int threads = 0;             ///< 0: one for each core
  uint64_t seed = 0;
  bool quiet = false;    ///< no progress, no notes
  bool verbose = false;  ///< a note on what it runs on

  torch::Device torch_device() const;
  torch::ScalarType torch_dtype(torch::ScalarType fallback) const;
  /// Of work with many products, that are summed in float32: bfloat16 if asked for and fast.
  /// All ranks call it.
  torch::ScalarType calibration_dtype() const;
};

/// bfloat16 where the processors of all ranks multiply it, float32 elsewhere. All ranks call it.
torch::ScalarType fastest_dtype(const torch::Device& device);

/// Checks of number options. CLI11's own name the bounds of a double, in 309 digits, to say
/// what they expect.
extern const CLI::Validator kPositive;     ///< above 0, finite
extern const CLI::Validator kNonNegative;  ///< 0 or more, finite

/// Shows names that are checked later, by those who know them, as choices of an option.
CLI::Validator named(const std::vector<std::string>& names);

// What the value of an option is: --help prints it, shells complete it (command_line.h).
inline constexpr const char* kFileValue = "FILE";
inline constexpr const char* kFolderValue = "FOLDER";
inline constexpr const char* kPathValue = "PATH";      ///< either of them
inline constexpr const char* kModelValue = "PATH|ID";  ///< what io::locate_model finds

/// MODEL, which most verbs read; `also` goes on with what it may be.
void add_model_argument(CLI::App& verb, std::string& model, const std::string& also = "");

/// The heading of the options that every verb of a model takes.
inline constexpr const char* kCommonGroup = "Common options";

/// Lets the options of a verb that are whole numbers refuse what does not fit 64 bits, for which
/// CLI11 takes the largest number, and leading zeros, which it takes to mean octal digits.
void check_whole_numbers(CLI::App& verb);

/// Adds the common options to a verb; applies --threads, --device and -v when it runs.
void add_common_options(CLI::App& verb, CommonOptions& options);
void apply_common_options(const CommonOptions& options);

}  // namespace schmidt::cli
