#include "schmidt/heal/block_level.h"

#include <cmath>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/compress/streamed_model.h"
#include "schmidt/dist/ring.h"
#include "schmidt/heal/schedule.h"
#include "schmidt/heal/teacher_rows.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/packing.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

// Of each batch this rank's rows [rows, context, hidden]; undefined where it has none.
using Streams = std::vector<torch::Tensor>;

/// This rank's rows of a batch.
struct Rows {
  model::Packing packing;
  torch::Tensor valid;       // float32 [rows, context], 0 at padding
  int64_t batch_tokens = 0;  // of all ranks' rows
};

/// sum over tokens of |target - out|^2 / |target|^2; padding weighs nothing.
torch::Tensor relative_error(const torch::Tensor& out, const torch::Tensor& target,
                             const torch::Tensor& valid) {
  const torch::Tensor wide = target.to(torch::kFloat32);
  const torch::Tensor error = (out.to(torch::kFloat32) - wide).square().sum(-1);
  // A token that the original maps to nothing has no scale of its own.
  const torch::Tensor size = wide.square().sum(-1).clamp_min(1e-6);
  return ((error / size) * valid).sum();
}

class BlockLevel {
 public:
  BlockLevel(const BlockLevelRun& run, const BlockLevelOptions& options)
      : run_(run),
        options_(options),
        student_(run.student, with_free_gauge(run.load)),
        exact_(run.student, with_free_gauge({torch::kFloat32, run.load.device})),
        teacher_(run.teacher, run.load) {
    const model::ModelConfig &s = student_.config(), &t = teacher_.config();
    TORCH_CHECK_VALUE(s.num_layers == t.num_layers && s.hidden_size == t.hidden_size,
                      "[heal] expected a teacher of ", s.num_layers, " blocks of width ",
                      s.hidden_size, ", got ", t.num_layers, " of ", t.hidden_size);
    for (const Batch& batch : run.batches) add(batch);
    rope_.emplace(student_.rope(run.batches.front().ids.size(1)));
    if (run.team.leads()) fs::create_directories(run.folder);
  }

  std::optional<std::map<std::string, torch::Tensor>> go() {
    std::map<std::string, torch::Tensor> trained;
    for (int64_t index = 0; index < student_.config().num_layers; ++index) {
      run_.team.describe(fmt::format("block {}", index));
      const auto [stop, finished] = ask(index);
      if (stop) return std::nullopt;
      if (run_.progress) {
        run_.progress({"heal blocks", fmt::format("block {}", index), index,
                       student_.config().num_layers, "blocks"});
      }
      advance(targets_, teacher_.block(index));
      model::Block block = student_.block(index);
      const model::Block exact = exact_.block(index);
      Parameters parameters(block.parameters(), exact.parameters(), options_.trained);
      if (finished) {
        parameters.set(io::load_safetensors(file_of(index)));
        parameters.write_to_model();
      } else {
        train(index, block, parameters);
      }
      for (auto& [name, value] : parameters.named_values()) trained[name] = value.clone();
      advance(inputs_, block);
    }
    return trained;
  }

 private:
  static model::LoadOptions with_free_gauge(model::LoadOptions options) {
    options.free_gauge = true;
    return options;
  }

  fs::path file_of(int64_t block) const {
    return run_.folder / fmt::format("block-{}.safetensors", block);
  }

  struct Answers {
    bool stop, finished;
  };

  /// Whether any rank is to stop, and whether the leader has this block: the same on all.
  Answers ask(int64_t block) const {
    const bool stop = run_.interrupted && run_.interrupted();
    const bool finished = run_.team.leads() && fs::exists(file_of(block));
    const std::vector<double> votes =
        sum_over(run_.team.all, {stop ? 1.0 : 0.0, finished ? 1.0 : 0.0});
    return {votes[0] > 0, votes[1] > 0};
  }

  /// This rank's rows of a batch, in front of the first block.
  void add(const Batch& batch) {
    const std::vector<int64_t> shares = dist::even_offsets(batch.ids.size(0), run_.team.all.size());
    const auto rank = static_cast<size_t>(run_.team.all.rank());
    const int64_t rows = shares[rank + 1] - shares[rank];
    rows_.push_back({{}, {}, batch.tokens()});
    inputs_.emplace_back();
    targets_.emplace_back();
    tokens_ += batch.tokens();
    if (rows == 0) return;
    const Batch mine = narrow_rows(batch, shares[rank], rows);
    rows_.back().packing = model::packing_of(mine.segments);
    rows_.back().valid = (mine.segments >= 0).to(run_.load.device, torch::kFloat32);
    inputs_.back() = student_.embed(mine.ids);
    targets_.back() = teacher_.embed(mine.ids);
  }

  void advance(Streams& streams, const model::Block& block) const {
    const at::NoGradGuard no_grad;
    for (size_t b = 0; b < streams.size(); ++b) {
      if (!streams[b].defined()) continue;
      streams[b] = block.forward(streams[b], *rope_, rows_[b].packing);
    }
  }

  /// The sum over this rank's tokens of a batch.
  torch::Tensor error_of(const model::Block& block, size_t b) const {
    const torch::Tensor out = block.forward(inputs_[b], *rope_, rows_[b].packing);
    return relative_error(out, targets_[b], rows_[b].valid);
  }

  double error(const model::Block& block) const {
    const at::NoGradGuard no_grad;
    double sum = 0.0;
    for (size_t b = 0; b < inputs_.size(); ++b) {
      if (inputs_[b].defined()) sum += error_of(block, b).item<double>();
    }
    return sum_over(run_.team.all, {sum})[0] / static_cast<double>(tokens_);
  }

  void train(int64_t index, const model::Block& block, Parameters& parameters) {
    // What ranks compute for themselves may differ in a last bit.
    run_.team.all.broadcast(parameters.values(), 0);
    parameters.write_to_model();
    BlockResult result{index, error(block), 0.0};
    const torch::Tensor start = parameters.values().clone();
    AdamW optimizer(parameters, {{0, parameters.numel()}}, options_.adamw);
    const auto batches = static_cast<int64_t>(inputs_.size());
    const Schedule schedule{options_.learning_rate, options_.epochs * batches, options_.warmup};
    for (int64_t step = 0; step < schedule.steps; ++step) {
      const auto b = static_cast<size_t>(step % batches);
      parameters.gradient().zero_();
      if (inputs_[b].defined()) {
        const auto tokens = static_cast<double>(std::max<int64_t>(rows_[b].batch_tokens, 1));
        (error_of(block, b) / tokens).backward();
      }
      run_.team.all.sum(parameters.gradient());
      const double norm = parameters.gradient().norm().item<double>();
      if (!std::isfinite(norm)) continue;
      if (options_.clip > 0.0 && norm > options_.clip) {
        parameters.gradient().mul_(options_.clip / norm);
      }
      optimizer.step(schedule.rate(step));
      parameters.write_to_model();
    }
    result.error_after = error(block);
    if (!(result.error_after < result.error_before)) {
      parameters.values().copy_(start);
      parameters.write_to_model();
      result.error_after = result.error_before;
    }
    if (run_.team.leads()) save(parameters, result);
  }

  void save(const Parameters& parameters, const BlockResult& result) const {
    std::vector<std::pair<std::string, torch::Tensor>> tensors;
    for (const auto& [name, value] : parameters.named_values()) {
      tensors.emplace_back(name, value.cpu());
    }
    io::save_safetensors(file_of(result.block), tensors);
    run_.log.write({{"block", result.block},
                    {"error_before", result.error_before},
                    {"error_after", result.error_after}});
  }

  const BlockLevelRun& run_;
  const BlockLevelOptions& options_;
  compress::StreamedModel student_, exact_, teacher_;
  std::vector<Rows> rows_;  // of each batch
  int64_t tokens_ = 0;      // of all ranks' rows
  Streams inputs_, targets_;
  std::optional<model::RopeTable> rope_;
};

}  // namespace

std::optional<std::map<std::string, torch::Tensor>> heal_blocks(const BlockLevelRun& run,
                                                                const BlockLevelOptions& options) {
  TORCH_CHECK_VALUE(!run.batches.empty(), "[heal] expected text for the block level, got none");
  return BlockLevel(run, options).go();
}

}  // namespace schmidt::heal
