#include "schmidt/pipeline/statistics.h"

#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::pipeline {
namespace {

/// All of the model, one by one or as groups where the layers are so: statistics for other runs too
/// do not depend on which layers this one takes. The layers themselves where they are mixed.
std::vector<plan::Layer> widened(const io::Checkpoint& model,
                                 const std::vector<plan::Layer>& layers) {
  std::vector<plan::Layer> all = plan::dense_layers(model);
  for (int i = 0; i < 2; ++i, all = plan::share_inputs(all)) {
    const bool covered = std::ranges::all_of(layers, [&](const plan::Layer& layer) {
      return std::ranges::find(all, layer.name, &plan::Layer::name) != all.end();
    });
    if (covered) return all;
  }
  return layers;
}

}  // namespace

calibrate::Workers ranks_as_workers() {
  calibrate::Workers workers{parallel::rank(), parallel::size(), {}, parallel::barrier};
  if (workers.size > 1) {
    const auto exchange = std::make_shared<parallel::Exchange>(parallel::all_ranks());
    workers.sum = [exchange](const torch::Tensor& x) { exchange->sum(x); };
  }
  return workers;
}

KeptStatistics::KeptStatistics(const io::Checkpoint& model, const std::vector<plan::Layer>& layers,
                               const torch::Tensor& windows, const model::LoadOptions& load,
                               const std::filesystem::path& folder, bool temporary,
                               const calibrate::StatisticsOptions& options,
                               const Reporter& reporter) {
  const calibrate::StreamedModel streamed(model, load);
  const std::vector<plan::Layer> measured = temporary ? layers : widened(model, layers);
  const auto collect = [&] {
    statistics_ = calibrate::Statistics::collect(model, streamed, measured, windows, folder,
                                                 options, reporter.progress);
  };
  // Workers share the work. Without them rank 0 does it all, to the bytes of a single process,
  // and the others find what it left.
  const bool shared = options.workers.size == parallel::size();
  if (shared || parallel::rank() == 0) collect();
  if (!shared) {
    parallel::barrier();
    if (parallel::rank() != 0) collect();
  }
  if (temporary) temporary_ = folder;
  if (const int64_t idle = statistics_->idle_experts(); idle > 0) {
    reporter.tell(fmt::format(
        "experts that no token of the calibration text takes: {}. Their layers are cut first; more "
        "text may tell what they are worth",
        idle));
  }
}

void KeptStatistics::done() const {
  if (temporary_ && parallel::rank() == 0) std::filesystem::remove_all(*temporary_);
}

}  // namespace schmidt::pipeline
