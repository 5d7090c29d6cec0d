#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include <torch/types.h>

#include "schmidt/heal/batch.h"
#include "schmidt/model/model.h"
#include "schmidt/parallel/exchange.h"

namespace schmidt::heal {

/// One rank's stage of a pipeline over blocks: activations go to the right, gradients to
/// the left, a micro-batch at a time. Each stage has S - s micro-batches under way at most
/// (one forward, one backward in turn), here S = 3 and 4 micro-batches:
///
///   stage 0   F0 F1 F2 .. .. B0 F3 B1 .. B2 .. B3
///   stage 1      F0 F1 .. B0 F2 B1 F3 B2 .. B3
///   stage 2         F0 B0 F1 B1 F2 B2 F3 B3
///
/// A stage of one is the whole model, and passes nothing.
/// Source: Narayanan et al. 2019, SOSP, section 3.2; the flush at the end as in
/// arXiv:2006.09503.
struct Stage {
  parallel::Exchange& exchange;           ///< the ranks of the pipeline, by stage
  const model::Model& student;            ///< this stage's blocks
  const model::Model* teacher = nullptr;  ///< this stage's blocks of the teacher
  bool checkpointing = false;             ///< blocks run twice, see model::checkpointed
  /// Called before the backward pass of a micro-batch; that of the last one ends the step.
  std::function<void(size_t micro_batch)> before_backward;
};

/// What the last stage makes of a micro-batch, after the final norm.
struct FinalHidden {
  torch::Tensor student;  ///< [b, t, hidden]
  torch::Tensor teacher;  ///< [b, t, hidden] without gradient; undefined without a teacher
};

/// The loss of a micro-batch, a scalar; undefined where there is nothing to learn.
using PipelineHead = std::function<torch::Tensor(size_t micro_batch, const FinalHidden& hidden)>;

/// Runs the micro-batches, which every rank of the pipeline has, through all stages and,
/// where gradients are recorded, back: then every trained leaf of this stage has got the
/// gradient of the sum of the losses, in the order of the micro-batches. `head` is called at
/// the last stage alone. Throws parallel::LostRank.
void run_pipeline(const Stage& stage, const std::vector<Batch>& micro_batches,
                  const PipelineHead& head);

/// A tied embedding is at the first stage and at the last. The first one trains it: it adds
/// the last one's gradient to its own, where zeros stay, before the step, and the last one
/// takes its values after the step. Tensors of one shape; other stages, and a pipeline of
/// one, do nothing. Throw parallel::LostRank.
void collect_tied_gradient(parallel::Exchange& pipeline, const torch::Tensor& gradient);
void share_tied_values(parallel::Exchange& pipeline, const torch::Tensor& values);

}  // namespace schmidt::heal
