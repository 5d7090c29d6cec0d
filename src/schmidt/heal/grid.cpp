#include "schmidt/heal/grid.h"

#include <algorithm>
#include <limits>

#include <c10/util/Exception.h>

#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"

namespace schmidt::heal {

Grid make_grid(int64_t rank, int64_t ranks, int64_t stages) {
  TORCH_CHECK_VALUE(stages >= 1 && ranks % stages == 0, "[grid] expected stages that divide ",
                    ranks, " ranks, got ", stages);
  Grid grid{ranks / stages, stages, rank / stages, rank % stages, {}, {}};
  for (int64_t s = 0; s < stages; ++s) grid.pipeline.push_back(grid.replica * stages + s);
  for (int64_t d = 0; d < grid.replicas; ++d) grid.data.push_back(d * stages + grid.stage);
  return grid;
}

std::vector<int64_t> cut_blocks(const std::vector<double>& work, int64_t stages) {
  const auto blocks = static_cast<int64_t>(work.size());
  TORCH_CHECK_VALUE(stages >= 1 && stages <= blocks, "[pipeline] expected 1 to ", blocks,
                    " stages for as many blocks, got ", stages);
  // best[s][b]: the smallest largest sum of the first b blocks in s stages.
  const auto at = [](int64_t i) { return static_cast<size_t>(i); };
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::vector best(at(stages + 1), std::vector<double>(at(blocks + 1), kNever));
  std::vector from(at(stages + 1), std::vector<int64_t>(at(blocks + 1), 0));
  best[0][0] = 0;
  for (int64_t s = 1; s <= stages; ++s) {
    for (int64_t b = s; b <= blocks; ++b) {
      double sum = 0;
      for (int64_t a = b - 1; a >= s - 1; --a) {
        sum += work[at(a)];
        const double largest = std::max(best[at(s - 1)][at(a)], sum);
        if (largest < best[at(s)][at(b)]) {
          best[at(s)][at(b)] = largest;
          from[at(s)][at(b)] = a;
        }
      }
    }
  }
  std::vector<int64_t> cuts = {blocks};
  for (int64_t s = stages; s > 0; --s) cuts.push_back(from[at(s)][at(cuts.back())]);
  std::ranges::reverse(cuts);
  return cuts;
}

std::vector<double> block_work(const io::Checkpoint& checkpoint) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  std::vector<double> work(static_cast<size_t>(config.num_layers), 0.0);
  const std::string head = model::has_tied_head(config) ? "model.embed_tokens." : "lm_head.";
  for (const auto& [name, info] : checkpoint.tensors()) {
    double numel = 1;
    for (const int64_t size : info.shape) numel *= static_cast<double>(size);
    for (int64_t b = 0; b < config.num_layers; ++b) {
      if (name.starts_with(model::block_prefix(b))) work[static_cast<size_t>(b)] += numel;
    }
    if (name.starts_with(head)) work.back() += numel;
  }
  return work;
}

}  // namespace schmidt::heal
