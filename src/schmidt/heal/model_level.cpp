#include "schmidt/heal/model_level.h"

#include <chrono>
#include <cmath>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/base/memory.h"
#include "schmidt/model/checkpointed.h"
#include "schmidt/model/packing.h"

namespace schmidt::heal {
namespace {

using Clock = std::chrono::steady_clock;

/// Steps in a row without a finite loss that end a run.
constexpr int64_t kMostNotFinite = 3;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Sums over counted positions.
struct Sums {
  double cross_entropy = 0.0;
  double kl = 0.0;
  int64_t counted = 0;
};

class Training {
 public:
  Training(const ModelLevelRun& run, const ModelLevelOptions& options)
      : run_(run),
        options_(options),
        optimizer_(run.parameters, {{0, run.parameters.numel()}}, options.adamw) {
    TORCH_CHECK_VALUE(options.batch >= 1 && options.micro_batch >= 1,
                      "[heal] expected a batch of one row or more, got ", options.batch, " and ",
                      options.micro_batch, " in one pass");
  }

  ModelLevelResult go() {
    begin();
    Ended ended = Ended::kDone;
    while (state_.step < options_.schedule.steps) {
      if (run_.interrupted && run_.interrupted()) {
        save();
        return {Ended::kInterrupted, state_.step, before_, {}};
      }
      step();
      if (due_for_evaluation() && patience_ended()) {
        ended = Ended::kEarly;
        break;
      }
      if (seconds_since(saved_) > 60.0 * options_.save_minutes) save();
    }
    save();
    return finish(ended);
  }

 private:
  void begin() {
    if (auto saved = run_.store.load(run_.parameters)) {
      state_ = std::move(saved->state);
      const auto& [steps, first, second] = saved->moments;
      optimizer_.restore(steps, first, second);
      run_.stream.restore(state_.stream);
      run_.log.rewind(state_.step);
    } else {
      state_.stream = run_.stream.state();
      run_.log.rewind(-1);
    }
    run_.parameters.write_to_model();
    if (state_.before.is_null()) {
      before_ = evaluate();
      state_.before = before_.json();
      if (!run_.held_out.empty()) {
        state_.best_loss = before_.loss;
        run_.store.save_best(run_.parameters);
      }
      run_.log.write({{"step", 0}, {"held_out", before_.json()}});
    } else {
      before_ = {state_.before.at("loss"), state_.before.at("cross_entropy"),
                 state_.before.at("kl")};
    }
    saved_ = Clock::now();
  }

  void step() {
    const Clock::time_point start = Clock::now();
    const Batch batch = run_.stream.next(options_.batch);
    context_ = batch.ids.size(1);
    run_.parameters.gradient().zero_();
    const Sums sums = backward(batch);
    const double norm = run_.parameters.gradient().norm().item<double>();
    const double rate = options_.schedule.rate(state_.step);
    const bool finite = std::isfinite(norm) && std::isfinite(sums.cross_entropy + sums.kl);
    if (finite) {
      if (options_.clip > 0.0 && norm > options_.clip) {
        run_.parameters.gradient().mul_(options_.clip / norm);
      }
      optimizer_.step(rate);
      run_.parameters.write_to_model();
    }
    ++state_.step;
    state_.stream = run_.stream.state();
    const double seconds = seconds_since(start);
    state_.seconds += seconds;
    report(sums, norm, rate, seconds, finite);
    state_.not_finite = finite ? 0 : state_.not_finite + 1;
    if (state_.not_finite == kMostNotFinite) {
      state_.not_finite = 0;
      save();
      TORCH_CHECK_VALUE(false, "[heal] the loss was not finite in ", kMostNotFinite,
                        " steps in a row, up to step ", state_.step,
                        "; the last good state is saved: expected a lower learning rate");
    }
  }

  /// Adds the gradient of the batch's mean loss.
  Sums backward(const Batch& batch) {
    Sums sums;
    sums.counted = batch.trained();
    const double scale = 1.0 / static_cast<double>(std::max<int64_t>(sums.counted, 1));
    for (int64_t begin = 0; begin < options_.batch; begin += options_.micro_batch) {
      const int64_t rows = std::min(options_.micro_batch, options_.batch - begin);
      const HeadLoss loss = loss_of(narrow_rows(batch, begin, rows),
                                    state_.step * options_.batch + begin, scale);
      if (loss.loss.defined()) loss.loss.backward();
      sums.cross_entropy += loss.cross_entropy;
      sums.kl += loss.kl;
    }
    return sums;
  }

  HeadLoss loss_of(const Batch& rows, int64_t first_row, double scale) const {
    const torch::Tensor counted = counted_positions(rows).to(run_.student.device());
    if (counted.size(0) == 0) return {};
    const torch::Tensor hidden = final_hidden(rows).flatten(0, 1).index_select(0, counted);
    const torch::Tensor targets =
        rows.targets.flatten().to(counted.device()).index_select(0, counted);
    const Teacher teacher = run_.teacher ? run_.teacher(rows, counted, first_row) : Teacher{};
    return head_loss(run_.student, hidden, targets, teacher, options_.weights, scale);
  }

  torch::Tensor final_hidden(const Batch& rows) const {
    const model::Model& student = run_.student;
    if (!options_.checkpointing || !at::GradMode::is_enabled()) {
      return student.hidden(rows.ids, rows.segments);
    }
    const model::Packing packing = model::packing_of(rows.segments);
    const model::RopeTable rope = student.rope(rows.ids.size(1));
    torch::Tensor h = student.embed(rows.ids);
    for (int64_t i = 0; i < student.num_blocks(); ++i) {
      h = model::checkpointed(student.block(i), h, rope, packing);
    }
    return student.final_norm(h);
  }

  HeldOutLoss evaluate() const {
    const at::NoGradGuard no_grad;
    Sums sums;
    int64_t row = options_.schedule.steps * options_.batch;  // numbered after the run's own
    for (const Batch& batch : run_.held_out) {
      const HeadLoss loss = loss_of(batch, row, 1.0);
      sums.cross_entropy += loss.cross_entropy;
      sums.kl += loss.kl;
      sums.counted += batch.trained();
      row += batch.ids.size(0);
    }
    if (sums.counted == 0) return {};
    return mean(sums);
  }

  HeldOutLoss mean(const Sums& sums) const {
    const auto n = static_cast<double>(sums.counted);
    const double cross_entropy = sums.cross_entropy / n, kl = sums.kl / n;
    return {options_.weights.cross_entropy * cross_entropy + options_.weights.kl * kl,
            cross_entropy, kl};
  }

  void report(const Sums& sums, double norm, double rate, double seconds, bool finite) {
    const HeldOutLoss loss = mean(sums);
    const int64_t positions = options_.batch * context_;
    const double speed = static_cast<double>(positions) / seconds;
    const int64_t memory = resident_bytes();
    nlohmann::json line = {{"step", state_.step},
                           {"tokens", state_.step * positions},
                           {"learning_rate", rate},
                           {"tokens_per_second", speed},
                           {"seconds", state_.seconds},
                           {"memory", memory},
                           {"skipped", !finite}};
    // JSON knows no infinity: a step that is left out has no loss to show.
    if (finite) {
      line["loss"] = loss.loss;
      line["cross_entropy"] = loss.cross_entropy;
      line["kl"] = loss.kl;
      line["gradient_norm"] = norm;
    }
    run_.log.write(line);
    if (!run_.progress) return;
    const std::string item =
        fmt::format("loss {:.3f}, rate {:.1e}, |gradient| {:.2f}, {:.0f} tokens/s, {:.2f} GB",
                    loss.loss, rate, norm, speed, static_cast<double>(memory) / 1e9);
    run_.progress({"heal", item, state_.step * positions, options_.schedule.steps * positions,
                   "tokens"});
  }

  bool due_for_evaluation() const {
    if (run_.held_out.empty()) return false;
    const bool last = state_.step == options_.schedule.steps;
    return last || (options_.evaluate_every > 0 && state_.step % options_.evaluate_every == 0);
  }

  bool patience_ended() {
    const HeldOutLoss now = evaluate();
    run_.log.write({{"step", state_.step}, {"held_out", now.json()}});
    if (now.loss < state_.best_loss) {
      state_.best_loss = now.loss;
      state_.best_step = state_.step;
      state_.waited = 0;
      run_.store.save_best(run_.parameters);
    } else {
      ++state_.waited;
    }
    return options_.patience > 0 && state_.waited >= options_.patience;
  }

  void save() {
    run_.store.save(state_, run_.parameters,
                    {optimizer_.steps(), optimizer_.first_moment(), optimizer_.second_moment()});
    saved_ = Clock::now();
  }

  ModelLevelResult finish(Ended ended) {
    HeldOutLoss after;
    if (!run_.held_out.empty()) {
      if (run_.store.load_best(run_.parameters)) run_.parameters.write_to_model();
      after = evaluate();
    }
    return {ended, state_.step, before_, after};
  }

  const ModelLevelRun& run_;
  const ModelLevelOptions& options_;
  AdamW optimizer_;
  RunState state_;
  HeldOutLoss before_;
  int64_t context_ = 0;  // tokens of a row
  Clock::time_point saved_;
};

}  // namespace

nlohmann::json HeldOutLoss::json() const {
  return {{"loss", loss}, {"cross_entropy", cross_entropy}, {"kl", kl}};
}

ModelLevelResult heal_model(const ModelLevelRun& run, const ModelLevelOptions& options) {
  return Training(run, options).go();
}

}  // namespace schmidt::heal
