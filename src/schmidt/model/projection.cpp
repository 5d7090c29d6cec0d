#include "schmidt/model/projection.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>

#include "schmidt/kernels/team_products.h"

namespace schmidt::model {
namespace {

class Concatenation : public Projection {
 public:
  explicit Concatenation(std::vector<ProjectionPtr> parts) : parts_(std::move(parts)) {}

  torch::Tensor apply(const torch::Tensor& x) const override {
    std::vector<torch::Tensor> outputs;
    for (const ProjectionPtr& part : parts_) outputs.push_back(part->apply(x));
    return at::cat(outputs, -1);
  }

  kernels::TeamProductPtr team_product(torch::ScalarType dtype) const override {
    return kernels::side_by_side(team_products(parts_, dtype), dtype);
  }

  int64_t out_features() const override {
    int64_t total = 0;
    for (const ProjectionPtr& part : parts_) total += part->out_features();
    return total;
  }

  std::vector<NamedTensor> parameters() const override { return joined(&Projection::parameters); }
  std::vector<NamedTensor> tensors() const override { return joined(&Projection::tensors); }

  torch::Tensor weight() const override {
    std::vector<torch::Tensor> weights;
    for (const ProjectionPtr& part : parts_) weights.push_back(part->weight());
    return at::cat(weights);
  }

 private:
  std::vector<NamedTensor> joined(std::vector<NamedTensor> (Projection::*list)() const) const {
    std::vector<NamedTensor> all;
    for (const ProjectionPtr& part : parts_) {
      for (NamedTensor& tensor : ((*part).*list)()) all.push_back(std::move(tensor));
    }
    return all;
  }

  std::vector<ProjectionPtr> parts_;
};

}  // namespace

std::vector<kernels::TeamProductPtr> team_products(std::span<const ProjectionPtr> projections,
                                                   torch::ScalarType dtype) {
  std::vector<kernels::TeamProductPtr> products;
  for (const ProjectionPtr& projection : projections) {
    products.push_back(projection->team_product(dtype));
  }
  return products;
}

kernels::TeamProductPtr Projection::team_product(torch::ScalarType /*dtype*/) const {
  return nullptr;
}

torch::Tensor Projection::rows(const torch::Tensor& ids) const {
  return at::embedding(weight(), ids);
}

ProjectionPtr concatenate(std::vector<ProjectionPtr> parts) {
  TORCH_CHECK_VALUE(!parts.empty(), "[concatenate] expected one projection or more, got none");
  if (parts.size() == 1) return parts.front();
  return std::make_shared<Concatenation>(std::move(parts));
}

}  // namespace schmidt::model
