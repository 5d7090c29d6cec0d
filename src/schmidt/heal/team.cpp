#include "schmidt/heal/team.h"

#include <ATen/ops/tensor.h>

#include "schmidt/parallel/ranks.h"

namespace schmidt::heal {

void Team::describe(const std::string& work) {
  for (parallel::Exchange* exchange : {&all, &data, &pipeline}) exchange->describe(work);
}

int64_t Team::bytes_sent() const {
  return all.bytes_sent() + data.bytes_sent() + pipeline.bytes_sent();
}

Team alone() {
  return {Grid{}, parallel::Exchange(nullptr), parallel::Exchange(nullptr),
          parallel::Exchange(nullptr)};
}

Team make_team(int64_t stages, const parallel::ExchangeOptions& options) {
  Grid grid = make_grid(parallel::rank(), parallel::size(), stages);
  parallel::Exchange all(parallel::all_ranks(), options);
  parallel::Exchange data(grid.data, options);
  parallel::Exchange pipeline(grid.pipeline, options);
  return {std::move(grid), std::move(all), std::move(data), std::move(pipeline)};
}

std::vector<double> sum_over(parallel::Exchange& exchange, const std::vector<double>& values) {
  const torch::Tensor sums = at::tensor(values, torch::kFloat64);
  exchange.sum(sums);
  const double* const begin = sums.const_data_ptr<double>();
  return {begin, begin + sums.numel()};
}

void wait_for_all(parallel::Exchange& exchange) { sum_over(exchange, {0.0}); }

}  // namespace schmidt::heal
