#include "schmidt/heal/block_level.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/output_place.h"
#include "schmidt/calibrate/streamed_model.h"
#include "schmidt/heal/run_state.h"
#include "schmidt/heal/schedule.h"
#include "schmidt/heal/teacher_rows.h"
#include "schmidt/heal/trained_tensors.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/packing.h"
#include "schmidt/parallel/ring.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;
using calibrate::ActivationStream;

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
        student_(run.student, to_train(run.load, options.trained, run.teacher)),
        exact_(run.student,
               to_train({torch::kFloat32, run.load.device}, options.trained, run.teacher)),
        teacher_(run.teacher, run.load) {
    const model::ModelConfig &s = student_.config(), &t = teacher_.config();
    TORCH_CHECK_VALUE(s.num_layers == t.num_layers && s.hidden_size == t.hidden_size,
                      "[heal] expected a teacher of ", s.num_layers, " blocks of width ",
                      s.hidden_size, ", got ", t.num_layers, " of ", t.hidden_size);
    calibrate::TextBatches own;  // this rank's rows of each batch
    for (const Batch& batch : run.batches) {
      const auto [begin, rows] = share_of(batch);
      if (rows > 0) own.own.push_back(static_cast<int64_t>(own.shapes.size()));
      own.shapes.push_back({rows, batch.ids.size(1)});
    }
    space_.emplace(std::move(own), run.folder / fmt::format("activations.{}", run.team.all.rank()),
                   run.load.dtype, run.load.device, options.activations.memory);
    inputs_ = make("inputs.0");
    targets_ = make("targets.0");
    for (const Batch& batch : run.batches) add(batch);
    rope_.emplace(student_.rope(run.batches.front().ids.size(1)));
    if (run.team.leads()) make_folders(run.folder);
  }

  bool go() {
    for (int64_t index = 0; index < student_.config().num_layers; ++index) {
      run_.team.describe(fmt::format("block {}", index));
      if (run_.save_points.ask().stop) return false;
      if (run_.progress) {
        run_.progress({"heal blocks", fmt::format("block {}", index), index,
                       student_.config().num_layers, "blocks"});
      }
      advance(targets_, fmt::format("targets.{}", index + 1), teacher_.block(index));
      model::Block block = student_.block(index);
      const model::Block exact = exact_.block(index);
      Parameters parameters(block.parameters(), exact.parameters(), options_.trained);
      if (of_leader([&] { return path_exists(file_of(index)) ? 1.0 : 0.0; }) > 0.0) {
        parameters.set(io::load_safetensors(file_of(index)));
        parameters.write_to_model();
      } else if (parameters.numel() > 0 && !train(index, block, parameters)) {
        return false;
      }
      advance(inputs_, fmt::format("inputs.{}", index + 1), block);
    }
    wait_for_all(run_.team.all);  // every file is there
    return true;
  }

 private:
  fs::path file_of(int64_t block) const { return healed_block(run_.folder, block); }

  /// Only the leader looks: elsewhere a file may not be seen as soon as it is there.
  double of_leader(const std::function<double()>& value) const {
    return sum_over(run_.team.all, {run_.team.leads() ? value() : 0.0})[0];
  }

  /// The first of this rank's rows of a batch, and how many they are.
  std::pair<int64_t, int64_t> share_of(const Batch& batch) const {
    const std::vector<int64_t> shares =
        parallel::even_offsets(batch.ids.size(0), run_.team.all.size());
    const auto rank = static_cast<size_t>(run_.team.all.rank());
    return {shares[rank], shares[rank + 1] - shares[rank]};
  }

  ActivationStream make(const std::string& name) const {
    return space_->make(name, student_.config().hidden_size);
  }

  /// This rank's rows of a batch, in front of the first block.
  void add(const Batch& batch) {
    const auto [begin, rows] = share_of(batch);
    const auto number = static_cast<int64_t>(rows_.size());
    rows_.push_back({{}, {}, batch.tokens()});
    tokens_ += batch.tokens();
    if (rows == 0) return;
    const Batch mine = narrow_rows(batch, begin, rows);
    rows_.back().packing = model::packing_of(mine.segments);
    rows_.back().valid = (mine.segments >= 0).to(run_.load.device, torch::kFloat32);
    inputs_.write(number, student_.embed(mine.ids));
    targets_.write(number, teacher_.embed(mine.ids));
  }

  void advance(ActivationStream& stream, const std::string& name, const model::Block& block) const {
    const at::NoGradGuard no_grad;
    ActivationStream after = make(name);
    for (const int64_t b : space_->batches().own) {
      after.write(b, block.forward(stream.take(b), *rope_, rows_[static_cast<size_t>(b)].packing));
    }
    stream = std::move(after);
  }

  /// The sum over this rank's tokens of a batch.
  torch::Tensor error_of(const model::Block& block, int64_t b) const {
    const Rows& rows = rows_[static_cast<size_t>(b)];
    const torch::Tensor out = block.forward(inputs_.read(b), *rope_, rows.packing);
    return relative_error(out, targets_.read(b), rows.valid);
  }

  double error(const model::Block& block) const {
    const at::NoGradGuard no_grad;
    double sum = 0.0;
    for (const int64_t b : space_->batches().own) sum += error_of(block, b).item<double>();
    return sum_over(run_.team.all, {sum})[0] / static_cast<double>(tokens_);
  }

  /// False if interrupted, with the state saved.
  bool train(int64_t index, const model::Block& block, Parameters& parameters) {
    // What ranks compute for themselves may differ in a last bit.
    run_.team.all.broadcast(parameters.values(), 0);
    parameters.write_to_model();
    const torch::Tensor start = parameters.values().clone();
    AdamW optimizer(parameters, {{0, parameters.numel()}}, options_.adamw);
    const StateStore store(run_.folder / fmt::format("block-{}", index));
    run_.log.rewind_to_block(index);
    BlockResult result{index, error(block), 0.0};
    RunState state = resumed(store, parameters, optimizer);
    const auto batches = static_cast<int64_t>(rows_.size());
    const Schedule schedule{options_.learning_rate, options_.epochs * batches, options_.warmup};
    for (; state.step < schedule.steps; ++state.step) {
      const SavePoints::Wishes wishes = run_.save_points.ask();
      if (wishes.save) save(store, state, parameters, optimizer);
      if (wishes.stop) return false;
      step(block, state.step % batches, schedule.rate(state.step), parameters, optimizer);
    }
    result.error_after = error(block);
    if (!(result.error_after < result.error_before)) {
      parameters.values().copy_(start);
      parameters.write_to_model();
      result.error_after = result.error_before;
    }
    if (run_.team.leads()) {
      finish(parameters, result);
      store.remove();
    }
    return true;
  }

  void step(const model::Block& block, int64_t b, double rate, Parameters& parameters,
            AdamW& optimizer) {
    parameters.gradient().zero_();
    if (std::ranges::binary_search(space_->batches().own, b)) {
      const auto tokens =
          static_cast<double>(std::max<int64_t>(rows_[static_cast<size_t>(b)].batch_tokens, 1));
      const torch::Tensor error = error_of(block, b) / tokens;
      if (error.requires_grad()) error.backward();  // not where no token takes a trained expert
    }
    run_.team.all.sum(parameters.gradient());
    const double norm = parameters.gradient().norm().item<double>();
    if (!std::isfinite(norm)) return;
    if (options_.clip > 0.0 && norm > options_.clip) {
      parameters.gradient().mul_(options_.clip / norm);
    }
    optimizer.step(rate);
    parameters.write_to_model();
  }

  /// The last state that the leader has saved of this block, or that of its start.
  RunState resumed(const StateStore& store, Parameters& parameters, AdamW& optimizer) const {
    const auto step = static_cast<int64_t>(
        of_leader([&] { return static_cast<double>(store.last_step().value_or(-1)); }));
    if (step < 0) return {};
    const SavedRun saved = store.load(step, parameters, {parameters.numel()});
    const auto [first, second] = saved.moments.piece(0);
    optimizer.restore(saved.moments.steps, first, second);
    parameters.write_to_model();
    return saved.state;
  }

  void save(const StateStore& store, const RunState& state, const Parameters& parameters,
            const AdamW& optimizer) const {
    if (run_.team.leads()) {
      const auto piece = [&](size_t) {
        return Moments::Piece{optimizer.first_moment(), optimizer.second_moment()};
      };
      store.save(state, parameters, {optimizer.steps(), {parameters.numel()}, piece});
      store.keep_only(state.step);
    }
    wait_for_all(run_.team.all);
    run_.save_points.saved();
  }

  void finish(const Parameters& parameters, const BlockResult& result) const {
    run_.log.write({{"block", result.block},
                    {"error_before", result.error_before},
                    {"error_after", result.error_after}});
    TrainedTensors::save(file_of(result.block), parameters);  // now it is finished
  }

  const BlockLevelRun& run_;
  const BlockLevelOptions& options_;
  calibrate::StreamedModel student_, exact_, teacher_;
  std::vector<Rows> rows_;  // of each batch
  int64_t tokens_ = 0;      // of all ranks' rows
  std::optional<calibrate::ActivationSpace> space_;
  ActivationStream inputs_, targets_;  // of the healed prefix and of the original
  std::optional<model::RopeTable> rope_;
};

}  // namespace

bool heal_blocks(const BlockLevelRun& run, const BlockLevelOptions& options) {
  TORCH_CHECK_VALUE(!run.batches.empty(), "[heal] expected text for the block level, got none");
  return BlockLevel(run, options).go();
}

fs::path healed_block(const fs::path& folder, int64_t block) {
  return folder / fmt::format("block-{}.safetensors", block);
}

bool is_healed_block(const fs::path& path) {
  return is_numbered(path.filename().string(), "block-", ".safetensors");
}

}  // namespace schmidt::heal
