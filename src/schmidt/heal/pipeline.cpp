#include "schmidt/heal/pipeline.h"

#include <deque>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

#include "schmidt/model/checkpointed.h"
#include "schmidt/model/packing.h"

namespace schmidt::heal {
namespace {

class Run {
 public:
  Run(const Stage& stage, const std::vector<Batch>& micro_batches, const PipelineHead& head)
      : stage_(stage),
        exchange_(stage.exchange),
        batches_(micro_batches),
        head_(head),
        back_(at::GradMode::is_enabled()) {}

  void go() {
    const size_t n = batches_.size();
    const auto ahead = static_cast<size_t>(exchange_.size() - 1 - exchange_.rank());
    const size_t filling = back_ ? std::min(ahead, n) : n;
    for (size_t m = 0; m < filling; ++m) forward(m);
    if (back_) {
      for (size_t m = filling; m < n; ++m) {
        forward(m);
        backward(m - filling);
      }
      for (size_t m = n - filling; m < n; ++m) backward(m);
    }
    let_arrive(0);
  }

 private:
  struct UnderWay {
    torch::Tensor input;   // a leaf; undefined at the first stage
    torch::Tensor output;  // the loss at the last stage
  };

  bool first() const { return exchange_.rank() == 0; }
  bool last() const { return exchange_.rank() == exchange_.size() - 1; }

  void forward(size_t m) {
    const Batch& batch = batches_[m];
    UnderWay now;
    if (!first()) {
      now.input = receive(batch, stage_.student, exchange_.rank() - 1).set_requires_grad(back_);
    }
    torch::Tensor teacher;
    if (stage_.teacher != nullptr) {
      const at::NoGradGuard no_grad;
      const torch::Tensor input =
          first() ? torch::Tensor() : receive(batch, *stage_.teacher, exchange_.rank() - 1);
      teacher = through(*stage_.teacher, input, batch);
    }
    now.output = through(stage_.student, now.input, batch);
    if (last()) {
      now.output = head_(m, {now.output, teacher});
    } else {
      send(now.output.detach(), exchange_.rank() + 1);
      if (teacher.defined()) send(teacher, exchange_.rank() + 1);
    }
    if (back_) under_way_.push_back(std::move(now));
  }

  void backward(size_t m) {
    const UnderWay now = std::move(under_way_.front());
    under_way_.pop_front();
    torch::Tensor gradient;
    if (!last()) gradient = receive(batches_[m], stage_.student, exchange_.rank() + 1);
    if (stage_.before_backward) stage_.before_backward(m);
    // A first stage may train nothing, a last one may have had nothing to learn.
    if (now.output.defined() && now.output.requires_grad()) {
      torch::autograd::backward({now.output}, {gradient});
    }
    if (first()) return;
    const torch::Tensor& of_input = now.input.grad();
    send(of_input.defined() ? of_input : at::zeros_like(now.input), exchange_.rank() - 1);
  }

  /// This stage's blocks; ids in, hidden after the final norm out where they begin or end here.
  torch::Tensor through(const model::Model& part, const torch::Tensor& input,
                        const Batch& batch) const {
    const model::Packing packing = model::packing_of(batch.segments);
    const model::RopeTable rope = part.rope(batch.ids.size(1));
    const bool twice = stage_.checkpointing && at::GradMode::is_enabled();
    torch::Tensor h = first() ? part.embed(batch.ids) : input;
    for (int64_t i = 0; i < part.num_blocks(); ++i) {
      h = twice ? model::checkpointed(part.block(i), h, rope, packing)
                : part.block(i).forward(h, rope, packing);
    }
    return last() ? part.final_norm(h) : h;
  }

  torch::Tensor receive(const Batch& batch, const model::Model& part, int64_t from) {
    const torch::Tensor h =
        at::empty({batch.ids.size(0), batch.ids.size(1), part.config().hidden_size},
                  at::TensorOptions(torch::kCPU).dtype(part.dtype()));
    exchange_.receive(h, from);
    return h.to(part.device());
  }

  void send(const torch::Tensor& h, int64_t to) {
    on_the_way_.push_back(exchange_.start_send(h.cpu().contiguous(), to));
    let_arrive(static_cast<size_t>(4 * exchange_.size()));
  }

  // Where a neighbour is slower, so many messages wait for it in memory and no more.
  void let_arrive(size_t open) {
    while (on_the_way_.size() > open) {
      exchange_.wait(on_the_way_.front());
      on_the_way_.pop_front();
    }
  }

  const Stage& stage_;
  parallel::Exchange& exchange_;
  const std::vector<Batch>& batches_;
  const PipelineHead& head_;
  const bool back_;
  std::deque<UnderWay> under_way_;
  std::deque<parallel::Ticket> on_the_way_;
};

}  // namespace

void run_pipeline(const Stage& stage, const std::vector<Batch>& micro_batches,
                  const PipelineHead& head) {
  Run(stage, micro_batches, head).go();
}

void collect_tied_gradient(parallel::Exchange& pipeline, const torch::Tensor& gradient) {
  const int64_t last = pipeline.size() - 1;
  if (last == 0) return;
  const at::NoGradGuard no_grad;
  if (pipeline.rank() == 0) {
    const torch::Tensor other = at::zeros_like(gradient);
    pipeline.receive(other, last);
    gradient.add_(other);
  } else if (pipeline.rank() == last) {
    pipeline.send(gradient, 0);
    gradient.zero_();
  }
}

void share_tied_values(parallel::Exchange& pipeline, const torch::Tensor& values) {
  const int64_t last = pipeline.size() - 1;
  if (last == 0) return;
  if (pipeline.rank() == 0) pipeline.send(values, last);
  if (pipeline.rank() == last) pipeline.receive(values, 0);
}

}  // namespace schmidt::heal
