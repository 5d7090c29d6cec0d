#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "schmidt/base/progress.h"
#include "schmidt/cli/options.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/kernels/activations.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::cli {

/// Prints a model's notes on stderr, each a line and once a run; none with -q.
void print_notes(const std::vector<std::string>& notes, const CommonOptions& options);

/// Prints notes so, one by one.
NoteFn printed_notes(const CommonOptions& options);

/// Opens the model at `path` and prints its notes, or hands them to `note`.
io::Checkpoint open_checkpoint(const std::string& path, const CommonOptions& options);
io::Checkpoint open_checkpoint(const std::string& path, const NoteFn& note);

/// How a model computes that is loaded to be run.
struct InferenceOptions {
  kernels::Activations activations = kernels::Activations::kInt8;
  model::CacheType cache_type = model::CacheType::kModel;
  model::Networks networks = model::Networks::kFastest;
};

/// The model at `path` in the dtype and on the device that were asked for.
model::Model load_model(const io::Checkpoint& checkpoint, const CommonOptions& options,
                        const InferenceOptions& inference);

/// --exact and --networks, of verbs for which speed counts more than the last digits.
void add_inference_options(CLI::App& verb, InferenceOptions& inference);

/// --cache-type, of verbs that decode.
void add_cache_type_option(CLI::App& verb, model::CacheType& type);

/// As --cache-type has it.
std::string_view name_of(model::CacheType type);

/// The tokenizer at `path`; what it has to note is said on stderr unless `options` are quiet.
text::Tokenizer load_tokenizer(const std::filesystem::path& path, const CommonOptions& options);

/// A file's text, without a byte order mark. Throws SystemError if it cannot be read,
/// FormatError if it is not UTF-8.
std::string read_text(const std::string& path);

/// All of standard input. Throws FormatError if it is not UTF-8.
std::string read_stdin();

}  // namespace schmidt::cli
