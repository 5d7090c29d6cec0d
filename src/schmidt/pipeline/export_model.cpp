#include "schmidt/pipeline/export_model.h"

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/convert/adapter.h"
#include "schmidt/convert/dense.h"
#include "schmidt/convert/gguf_file.h"
#include "schmidt/convert/low_rank.h"
#include "schmidt/convert/rotated.h"
#include "schmidt/model/config.h"
#include "schmidt/model/require_model.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/package/rewrite.h"
#include "schmidt/pipeline/outputs.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// A folder that is written in one go: what a killed run had begun goes first, and what a run
/// that fails has begun goes last.
template <typename Write>
void write_folder(const fs::path& out, bool force, const FolderKind& kind, const Write& write) {
  AtomicFolder folder(out, force, kind);
  remove_all_but(folder.path(), {});
  try {
    write(folder.path());
    folder.commit();
  } catch (...) {
    if (path_exists(folder.path())) remove_all_but(folder.path(), {});
    throw;
  }
}

bool holds_weights(const fs::path& file) {
  return file.extension() == ".safetensors" || file.extension() == ".gguf";
}

/// The files of weights in a folder that is whole, and in those that lie in it.
ExportResult result_of(const fs::path& folder, int64_t parameters) {
  ExportResult result;
  result.parameters = parameters;
  for (const fs::path& entry : folder_entries(folder)) {
    if (is_folder(entry)) {
      const ExportResult below = result_of(entry, 0);
      result.files.insert(result.files.end(), below.files.begin(), below.files.end());
      result.bytes += below.bytes;
    } else if (holds_weights(entry)) {
      result.files.push_back(entry);
      result.bytes += bytes_of_file(entry);
    }
  }
  return result;
}

std::vector<InputPath> inputs_of(const io::Checkpoint& model) {
  return {{"the model", model.path()}};
}

ExportResult export_folder(const io::Checkpoint& model, const convert::DenseModel& exported,
                           const ExportRun& run, const Reporter& reporter) {
  const fs::path out = output_folder(run.out, {}, inputs_of(model));
  int64_t parameters = 0;
  write_folder(out, run.force, package::export_folder(), [&](const fs::path& folder) {
    parameters = package::write_checkpoint(model, exported.weights, exported.config, folder,
                                           reporter.progress, package::kExportMetadata)
                     .parameters;
  });
  return result_of(out, parameters);
}

/// What llama.cpp computes otherwise, without refusing to.
void tell_of_windows(const model::ModelConfig& config, const Reporter& reporter) {
  const auto window = config.windows.front();
  const bool reads_it = config.model_type.starts_with("gemma");
  if (!window || *window >= config.max_positions || reads_it) return;
  reporter.tell(fmt::format(
      "llama.cpp attends to all positions where this model has a window of {}; texts up to that "
      "length are the same",
      *window));
}

int64_t numbers_in(const std::vector<convert::LowRankGroup>& groups) {
  int64_t numbers = 0;
  for (const convert::LowRankGroup& group : groups) {
    for (const model::LayerSpec& member : group.group.members) {
      numbers += group.rank * (member.out_features + member.in_features);
    }
  }
  return numbers;
}

ExportResult export_gguf(const io::Checkpoint& model, const ExportRecipe& recipe,
                         const ExportRun& run, const Reporter& reporter) {
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  const auto groups = convert::low_rank_groups(config, model.path());
  ExportResult result;
  if (groups.empty() || run.out.extension() == ".gguf") {
    const fs::path out = output_file(run.out, run.force, inputs_of(model));
    const int64_t parameters =
        convert::write_gguf_model(model, {.type = recipe.type}, out, reporter.progress);
    result = {{out}, bytes_of_file(out), parameters};
  } else {
    const quant::Format* wide = quant::find_format("F32");
    const quant::Format& type = recipe.type == wide ? *wide : *quant::find_format("F16");
    convert::check_layers_stand_alone(model, "llama.cpp",
                                      "; -o OUT.gguf has one file, multiplied out");
    const fs::path out = output_folder(run.out, {}, inputs_of(model));
    int64_t parameters = numbers_in(groups);
    write_folder(out, run.force, convert::gguf_adapter_folder(), [&](const fs::path& folder) {
      parameters +=
          convert::write_gguf_model(model, {.type = recipe.type, .without_low_ranks = true},
                                    folder / convert::kBaseGguf, reporter.progress);
      convert::write_gguf_adapter(model, config, groups, type, folder / convert::kLowRankGguf);
    });
    result = result_of(out, parameters);
  }
  tell_of_windows(config, reporter);
  return result;
}

ExportResult export_peft(const io::Checkpoint& model, const ExportRecipe& recipe,
                         const ExportRun& run, const Reporter& reporter) {
  const model::ModelConfig config = model::parse_config(model.config(), model.path());
  const auto groups = convert::low_rank_groups(config, model.path());
  TORCH_CHECK_VALUE(!groups.empty(),
                    "[export] expected layers that hold a low rank beside a weight of full size, "
                    "of which an adapter is made, got none in ",
                    model.path().string());
  const convert::DenseModel base =
      convert::dense_model(model, {.dtype = recipe.dtype, .without_low_ranks = true});
  convert::check_layers_stand_alone(model, "transformers", "");
  // Factors have more to say than a bfloat16 holds, and less than its range.
  const auto dense = recipe.dtype.value_or(convert::dense_dtype(model));
  const auto dtype = dense == torch::kFloat32 ? torch::kFloat32 : torch::kFloat16;
  const fs::path out = output_folder(run.out, {}, inputs_of(model));
  int64_t parameters = numbers_in(groups);
  write_folder(out, run.force, convert::peft_adapter_folder(), [&](const fs::path& folder) {
    make_folders(folder / convert::kBaseFolder);
    parameters +=
        package::write_checkpoint(model, base.weights, base.config, folder / convert::kBaseFolder,
                                  reporter.progress, package::kExportMetadata)
            .parameters;
    convert::write_peft_adapter(model, groups, dtype, convert::kBaseFolder, folder);
  });
  return result_of(out, parameters);
}

}  // namespace

ExportResult export_model(const io::Checkpoint& model, const ExportRecipe& recipe,
                          const ExportRun& run, const Reporter& reporter) {
  model::require_model(model);
  switch (recipe.target) {
    case ExportTarget::kTransformers:
      return export_folder(model, {package::Rewrite(model), model.config(), {}}, run, reporter);
    case ExportTarget::kDense:
      return export_folder(model,
                           recipe.rotation
                               ? convert::rotated_model(model, *recipe.rotation, recipe.dtype)
                               : convert::dense_model(model, {.dtype = recipe.dtype}),
                           run, reporter);
    case ExportTarget::kGguf:
      return export_gguf(model, recipe, run, reporter);
    case ExportTarget::kPeft:
      return export_peft(model, recipe, run, reporter);
  }
  TORCH_INTERNAL_ASSERT(false, "unknown target of an export");
}

}  // namespace schmidt::pipeline
