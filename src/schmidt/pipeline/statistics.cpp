#include "schmidt/pipeline/statistics.h"

#include <memory>

#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::pipeline {

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
  const auto collect = [&] {
    statistics_ = calibrate::Statistics::collect(model, streamed, layers, windows, folder, options,
                                                 reporter.progress);
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
}

void KeptStatistics::done() const {
  if (temporary_ && parallel::rank() == 0) std::filesystem::remove_all(*temporary_);
}

}  // namespace schmidt::pipeline
