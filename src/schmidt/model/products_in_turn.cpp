#include "schmidt/model/products_in_turn.h"

#include <ATen/ops/empty.h>

#include "schmidt/kernels/team_products.h"

namespace schmidt::model {

ProductsInTurn::ProductsInTurn(std::vector<ProjectionPtr> projections, torch::ScalarType dtype,
                               bool by_team)
    : projections_(std::move(projections)) {
  if (by_team) products_ = team_products(projections_, dtype);
  if (!products_.empty() && products_.front() == nullptr) products_.clear();
}

void ProductsInTurn::run(const torch::Tensor& x) {
  const int64_t rows = x.size(0);
  if (products_.empty() || rows > kernels::kMostTeamRows) {
    for (const ProjectionPtr& projection : projections_) projection->apply(x);
    return;
  }
  const kernels::TeamProduct& first = *products_.front();
  const torch::Tensor y = at::empty({rows, first.m()}, x.options());
  const torch::Tensor between = at::empty({rows, first.between()}, x.options());
  const kernels::TeamRows of_team = {.x = x.const_data_ptr(),
                                     .y = y.mutable_data_ptr(),
                                     .between = between.mutable_data_ptr(),
                                     .rows = rows,
                                     .x_stride = first.n(),
                                     .y_stride = first.m()};
  kernels::run_team(false, [&](const kernels::Member& member) {
    kernels::TeamScratch scratch;
    for (const kernels::TeamProductPtr& product : products_) {
      product->run(member, of_team, scratch);
      member.meet();
    }
  });
}

}  // namespace schmidt::model
