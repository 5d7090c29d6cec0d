#include "schmidt/cli/shared_work.h"

#include <memory>

#include <nlohmann/json.hpp>

#include "schmidt/parallel/exchange.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::cli {

calibrate::Workers ranks_as_workers() {
  calibrate::Workers workers{parallel::rank(), parallel::size(), {}, parallel::barrier};
  if (workers.size > 1) {
    const auto exchange = std::make_shared<parallel::Exchange>(parallel::all_ranks());
    workers.sum = [exchange](const torch::Tensor& x) { exchange->sum(x); };
  }
  return workers;
}

torch::Tensor shared_calibration_text(const io::Checkpoint& checkpoint,
                                      const CalibrationOptions& options,
                                      const CommonOptions& common, const ProgressFn& progress) {
  nlohmann::json sent;
  if (parallel::rank() == 0) {
    const torch::Tensor windows =
        calibration_text(checkpoint, options, common, progress).contiguous();
    sent = {{"shape", windows.sizes().vec()},
            {"ids", std::vector<int64_t>(windows.const_data_ptr<int64_t>(),
                                         windows.const_data_ptr<int64_t>() + windows.numel())}};
  }
  const auto received = nlohmann::json::parse(parallel::broadcast(sent.dump()));
  return torch::tensor(received["ids"].get<std::vector<int64_t>>(), torch::kInt64)
      .view(received["shape"].get<std::vector<int64_t>>());
}

}  // namespace schmidt::cli
