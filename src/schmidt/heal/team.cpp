#include "schmidt/heal/team.h"

#include <cstring>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <nlohmann/json.hpp>

#include "schmidt/dist/ranks.h"

namespace schmidt::heal {

void Team::describe(const std::string& work) {
  for (dist::Exchange* exchange : {&all, &data, &pipeline}) exchange->describe(work);
}

int64_t Team::bytes_sent() const {
  return all.bytes_sent() + data.bytes_sent() + pipeline.bytes_sent();
}

Team alone() {
  return {Grid{}, dist::Exchange(nullptr), dist::Exchange(nullptr), dist::Exchange(nullptr)};
}

Team make_team(int64_t stages, const dist::ExchangeOptions& options) {
  Grid grid = make_grid(dist::rank(), dist::size(), stages);
  dist::Exchange all(dist::all_ranks(), options);
  dist::Exchange data(grid.data, options);
  dist::Exchange pipeline(grid.pipeline, options);
  return {std::move(grid), std::move(all), std::move(data), std::move(pipeline)};
}

std::vector<double> sum_over(dist::Exchange& exchange, const std::vector<double>& values) {
  const torch::Tensor sums = at::tensor(values, torch::kFloat64);
  exchange.sum(sums);
  const double* const begin = sums.const_data_ptr<double>();
  return {begin, begin + sums.numel()};
}

std::string text_of(dist::Exchange& exchange, int64_t root, const std::string& text) {
  const torch::Tensor size = at::tensor(static_cast<int64_t>(text.size()), torch::kInt64);
  exchange.broadcast(size, root);
  const torch::Tensor letters = at::empty({size.item<int64_t>()}, torch::kUInt8);
  if (exchange.rank() == root) std::memcpy(letters.data_ptr(), text.data(), text.size());
  exchange.broadcast(letters, root);
  return {static_cast<const char*>(letters.data_ptr()), static_cast<size_t>(letters.numel())};
}

std::map<std::string, torch::Tensor> collect_named(dist::Exchange& exchange,
                                                   std::map<std::string, torch::Tensor> mine) {
  nlohmann::json shapes = nlohmann::json::object();
  for (const auto& [name, tensor] : mine) shapes[name] = tensor.sizes().vec();
  for (int64_t r = 1; r < exchange.size(); ++r) {
    const auto there = nlohmann::json::parse(text_of(exchange, r, shapes.dump()));
    for (const auto& [name, shape] : there.items()) {
      if (exchange.rank() == r) exchange.send(mine.at(name).cpu().contiguous(), 0);
      if (exchange.rank() != 0) continue;
      const torch::Tensor other = at::empty(shape.get<std::vector<int64_t>>(), torch::kFloat32);
      exchange.receive(other, r);
      mine.emplace(name, other);
    }
  }
  return mine;
}

}  // namespace schmidt::heal
