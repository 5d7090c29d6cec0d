#include "schmidt/model/projection.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>

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

torch::Tensor Projection::rows(const torch::Tensor& ids) const {
  return at::embedding(weight(), ids);
}

ProjectionPtr concatenate(std::vector<ProjectionPtr> parts) {
  TORCH_CHECK_VALUE(!parts.empty(), "[concatenate] expected one projection or more, got none");
  if (parts.size() == 1) return parts.front();
  return std::make_shared<Concatenation>(std::move(parts));
}

}  // namespace schmidt::model
