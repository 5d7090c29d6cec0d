#include "schmidt/calibrate/embedded_text.h"

#include <vector>

#include <ATen/ops/cat.h>

namespace schmidt::calibrate {

ActivationStream embedded_text(const Embed& embed, const torch::Tensor& windows,
                               const ActivationSpace& space, const std::string& name,
                               int64_t hidden) {
  const TextBatches& batches = space.batches();
  ActivationStream stream = space.make(name, hidden);
  const auto rows = [&](int64_t b) { return batches.shapes[static_cast<size_t>(b)].rows; };
  std::vector<torch::Tensor> ids;
  for (const int64_t b : batches.own) {
    ids.push_back(windows.narrow(0, batches.begin(b), rows(b)));
  }
  if (ids.empty()) return stream;
  const torch::Tensor h = embed(at::cat(ids));  // [own windows, t, hidden]
  int64_t row = 0;
  for (const int64_t b : batches.own) {
    stream.write(b, h.narrow(0, row, rows(b)).clone());  // each with memory of its own
    row += rows(b);
  }
  return stream;
}

}  // namespace schmidt::calibrate
