#include "schmidt/pipeline/export_model.h"

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/convert/dense.h"
#include "schmidt/convert/gguf_file.h"
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

/// The files of weights in a folder that is whole.
ExportResult result_of(const fs::path& folder, int64_t parameters) {
  ExportResult result;
  result.parameters = parameters;
  for (const fs::path& entry : folder_entries(folder)) {
    if (entry.extension() != ".safetensors") continue;
    result.files.push_back(entry);
    result.bytes += bytes_of_file(entry);
  }
  return result;
}

ExportResult export_folder(const io::Checkpoint& model, const convert::DenseModel& exported,
                           const fs::path& out, bool force, const Reporter& reporter) {
  int64_t parameters = 0;
  write_folder(out, force, package::export_folder(), [&](const fs::path& folder) {
    parameters = package::write_checkpoint(model, exported.weights, exported.config, folder,
                                           reporter.progress, package::kExportMetadata)
                     .parameters;
  });
  return result_of(out, parameters);
}

/// What llama.cpp computes otherwise, without refusing to.
void tell_of_windows(const io::Checkpoint& model, const Reporter& reporter) {
  const auto config = model::parse_config(model.config(), model.path());
  const auto window = config.windows.front();
  if (!window || *window >= config.max_positions) return;
  reporter.tell(fmt::format(
      "llama.cpp attends to all positions where this model has a window of {}; texts up to that "
      "length are the same",
      *window));
}

ExportResult export_gguf(const io::Checkpoint& model, const ExportRecipe& recipe,
                         const ExportRun& run, const Reporter& reporter) {
  const fs::path out = output_file(run.out, run.force, {{"the model", model.path()}});
  const int64_t parameters = convert::write_gguf_model(model, recipe.type, out, reporter.progress);
  tell_of_windows(model, reporter);
  return {{out}, bytes_of_file(out), parameters};
}

}  // namespace

ExportResult export_model(const io::Checkpoint& model, const ExportRecipe& recipe,
                          const ExportRun& run, const Reporter& reporter) {
  model::require_model(model);
  if (recipe.target == ExportTarget::kGguf) return export_gguf(model, recipe, run, reporter);
  const fs::path out = output_folder(run.out, {}, {{"the model", model.path()}});
  switch (recipe.target) {
    case ExportTarget::kGguf:
      break;
    case ExportTarget::kTransformers:
      return export_folder(model, {package::Rewrite(model), model.config(), {}}, out, run.force,
                           reporter);
    case ExportTarget::kDense:
      return export_folder(model, convert::dense_model(model, {.dtype = recipe.dtype}), out,
                           run.force, reporter);
  }
  TORCH_INTERNAL_ASSERT(false, "unknown target of an export");
}

}  // namespace schmidt::pipeline
