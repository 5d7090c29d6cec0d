#include "schmidt/heal/model_level.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <fmt/format.h>

#include "schmidt/base/memory.h"
#include "schmidt/heal/gradient_exchange.h"
#include "schmidt/heal/pipeline.h"
#include "schmidt/heal/sharding.h"
#include "schmidt/parallel/ring.h"

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

std::vector<Slice> slices_of(const Parameters& parameters) {
  std::vector<Slice> slices;
  for (const Parameters::Piece& piece : parameters.pieces()) {
    slices.push_back({piece.offset, piece.end()});
  }
  return slices;
}

/// Of the embedding, where it is trained and both the first stage and the last one hold it.
std::vector<size_t> tied_pieces(const ModelLevelRun& run) {
  const model::ModelConfig& config = run.student.config();
  if (run.team.grid.stages == 1 || !model::has_tied_head(config)) return {};
  std::vector<size_t> tied;
  const auto& pieces = run.parameters.pieces();
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].name.starts_with("model.embed_tokens.")) tied.push_back(i);
  }
  return tied;
}

class Training {
 public:
  Training(const ModelLevelRun& run, const ModelLevelOptions& options)
      : run_(run),
        team_(run.team),
        options_(options),
        sharding_(slices_of(run.parameters), team_.data.rank(), team_.data.size()),
        exchanged_(team_.data, sharding_, run.parameters.gradient()),
        optimizer_(run.parameters, sharding_.owned(), options.adamw),
        tied_(tied_pieces(run)) {
    TORCH_CHECK_VALUE(options.batch >= 1 && options.micro_batch >= 1,
                      "[heal] expected a batch of one row or more, got ", options.batch, " and ",
                      options.micro_batch, " in one pass");
    // Of the tied embedding the first stage has to hear of the last one's gradient first.
    run_.parameters.on_gradient([this](size_t piece) {
      if (last_pass_ && std::ranges::find(tied_, piece) == tied_.end()) exchanged_.ready(piece);
    });
  }
  ~Training() { run_.parameters.on_gradient({}); }
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  ModelLevelResult go() {
    begin();
    while (state_.step < options_.schedule.steps && !patience_ended()) {
      team_.describe(fmt::format("step {}", state_.step + 1));
      const SavePoints::Wishes wishes = run_.save_points.ask();
      // Parameters of which no loss is finite are no state to go on from.
      if (wishes.save && (state_.not_finite == 0 || wishes.stop)) save();
      if (wishes.stop) return {Ended::kInterrupted, state_.step, before_, {}};
      step();
      if (has_diverged()) return finish(Ended::kDiverged);
      if (due_for_evaluation()) compare_with_best();
    }
    if (run_.held_out.empty() && state_.not_finite > 0) refuse_diverged();
    save();
    return finish(patience_ended() ? Ended::kEarly : Ended::kDone);
  }

 private:
  /// The last step whose state all stages have: a kill may have come while they saved.
  std::optional<int64_t> saved_step() {
    std::vector<double> last(static_cast<size_t>(team_.all.size()), 0.0);
    last[static_cast<size_t>(team_.all.rank())] =
        static_cast<double>(run_.store.last_step().value_or(-1));
    last = sum_over(team_.all, last);
    const auto step = static_cast<int64_t>(*std::ranges::min_element(last));
    return step < 0 ? std::nullopt : std::optional(step);
  }

  void begin() {
    // What ranks have computed for themselves so far may differ in a last bit.
    team_.data.broadcast(run_.parameters.values(), 0);
    if (const auto at = saved_step()) {
      SavedRun saved = run_.store.load(*at, run_.parameters, bucket_sizes());
      if (team_.leads_stage()) run_.store.keep_only(*at);
      state_ = std::move(saved.state);
      restore(saved.moments);
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
        if (std::isfinite(before_.loss)) state_.best_loss = before_.loss;
        save_best();
      }
      log_held_out(before_);
    } else {
      before_ = HeldOutLoss::from_json(state_.before);
    }
    run_.save_points.saved();
  }

  void step() {
    const Clock::time_point start = Clock::now();
    const int64_t sent = team_.bytes_sent();
    const Batch batch = run_.stream.next(options_.batch);
    context_ = batch.ids.size(1);
    run_.parameters.gradient().zero_();
    const Sums sums = backward(batch);
    const double norm = sharding_.norm(team_.all, run_.parameters.gradient());
    const double rate = options_.schedule.rate(state_.step);
    const bool finite = std::isfinite(norm) && std::isfinite(sums.cross_entropy + sums.kl);
    if (finite) {
      if (options_.clip > 0.0 && norm > options_.clip) {
        run_.parameters.gradient().mul_(options_.clip / norm);
      }
      optimizer_.step(rate);
      sharding_.gather(team_.data, run_.parameters.values());
      for (const size_t piece : tied_) {
        share_tied_values(team_.pipeline, piece_of(run_.parameters.values(), piece));
      }
      run_.parameters.write_to_model();
    }
    ++state_.step;
    state_.stream = run_.stream.state();
    const double seconds = seconds_since(start);
    state_.seconds += seconds;
    const double exchanged =
        sum_over(team_.all, {static_cast<double>(team_.bytes_sent() - sent)})[0];
    report(sums, norm, rate, seconds, finite, exchanged);
    state_.not_finite = finite ? 0 : state_.not_finite + 1;
  }

  /// Throws where that leaves nothing.
  bool has_diverged() const {
    if (state_.not_finite < kMostNotFinite) return false;
    if (state_.best_step == 0) refuse_diverged();
    return true;
  }

  [[noreturn]] void refuse_diverged() const {
    TORCH_CHECK_VALUE(false, "[heal] the loss was not finite in ", state_.not_finite,
                      state_.not_finite == 1 ? " step" : " steps in a row", ", up to step ",
                      state_.step,
                      ": the parameters have diverged. A lower --learning-rate is another run, "
                      "--force begins it");
  }

  /// The gradient of the batch's mean loss, summed where it is owned, and the whole sums.
  Sums backward(const Batch& batch) {
    const std::vector<int64_t> shares = parallel::even_offsets(options_.batch, team_.grid.replicas);
    const auto replica = static_cast<size_t>(team_.grid.replica);
    std::vector<Pass> passes;
    for (int64_t row = shares[replica]; row < shares[replica + 1]; row += options_.micro_batch) {
      const int64_t rows = std::min(options_.micro_batch, shares[replica + 1] - row);
      passes.push_back({narrow_rows(batch, row, rows), state_.step * options_.batch + row});
    }
    const int64_t counted = batch.trained();
    Sums sums = run_passes(passes, 1.0 / static_cast<double>(std::max<int64_t>(counted, 1)));
    for (const size_t piece : tied_) {
      collect_tied_gradient(team_.pipeline, piece_of(run_.parameters.gradient(), piece));
    }
    exchanged_.finish();
    sums.counted = counted;
    return sums;
  }

  /// Rows that go through the model at once.
  struct Pass {
    Batch rows;
    int64_t first_row;
  };

  /// -> the sums of all ranks' passes, `counted` aside.
  Sums run_passes(const std::vector<Pass>& passes, double scale) {
    std::vector<Batch> rows;
    for (const Pass& pass : passes) rows.push_back(pass.rows);
    Sums sums;
    last_pass_ = false;
    const Stage stage{team_.pipeline, run_.student, run_.teacher_part, options_.checkpointing,
                      [&](size_t m) { last_pass_ = m + 1 == passes.size(); }};
    run_pipeline(stage, rows, [&](size_t m, const FinalHidden& hidden) {
      const HeadLoss loss = loss_of(passes[m], hidden, scale);
      sums.cross_entropy += loss.cross_entropy;
      sums.kl += loss.kl;
      return loss.loss;
    });
    const std::vector<double> all = sum_over(team_.all, {sums.cross_entropy, sums.kl});
    return {all[0], all[1], 0};
  }

  HeadLoss loss_of(const Pass& pass, const FinalHidden& hidden, double scale) const {
    const torch::Tensor counted = counted_positions(pass.rows).to(run_.student.device());
    if (counted.size(0) == 0) return {};
    const auto at_counted = [&](const torch::Tensor& x) {
      return x.flatten(0, 1).index_select(0, counted);
    };
    const torch::Tensor targets =
        pass.rows.targets.flatten().to(counted.device()).index_select(0, counted);
    Teacher teacher;
    if (hidden.teacher.defined()) {
      teacher = {run_.teacher_part, at_counted(hidden.teacher), std::nullopt};
    } else if (run_.teacher) {
      teacher = run_.teacher(pass.rows, counted, pass.first_row);
    }
    return head_loss(run_.student, at_counted(hidden.student), targets, teacher, options_.weights,
                     scale);
  }

  torch::Tensor piece_of(const torch::Tensor& flat, size_t index) const {
    const Parameters::Piece& piece = run_.parameters.pieces()[index];
    return flat.narrow(0, piece.offset, piece.leaf.numel());
  }

  HeldOutLoss evaluate() {
    const at::NoGradGuard no_grad;
    std::vector<Pass> passes;
    int64_t counted = 0;
    int64_t row = options_.schedule.steps * options_.batch;  // numbered after the run's own
    for (size_t i = 0; i < run_.held_out.size(); ++i) {
      const Batch& batch = run_.held_out[i];
      if (std::cmp_equal(i % static_cast<size_t>(team_.grid.replicas), team_.grid.replica)) {
        passes.push_back({batch, row});
      }
      counted += batch.trained();
      row += batch.ids.size(0);
    }
    if (counted == 0) return {};
    Sums sums = run_passes(passes, 1.0);
    sums.counted = counted;
    return mean(sums);
  }

  HeldOutLoss mean(const Sums& sums) const {
    const auto n = static_cast<double>(sums.counted);
    const double cross_entropy = sums.cross_entropy / n, kl = sums.kl / n;
    return {options_.weights.cross_entropy * cross_entropy + options_.weights.kl * kl,
            cross_entropy, options_.weights.kl > 0.0 ? kl : HeldOutLoss::kNotMeasured};
  }

  void report(const Sums& sums, double norm, double rate, double seconds, bool finite,
              double exchanged) {
    const HeldOutLoss loss = mean(sums);
    const int64_t positions = options_.batch * context_;
    const double speed = static_cast<double>(positions) / seconds;
    const int64_t memory = resident_bytes();
    nlohmann::json line = {{"step", state_.step},       {"tokens", state_.step * positions},
                           {"learning_rate", rate},     {"tokens_per_second", speed},
                           {"seconds", state_.seconds}, {"memory", memory},
                           {"skipped", !finite}};
    if (team_.all.size() > 1) line["bytes_exchanged"] = exchanged;
    // JSON knows no infinity: a step that is left out has no loss to show.
    if (finite) {
      line["loss"] = loss.loss;
      line["cross_entropy"] = loss.cross_entropy;
      line["kl"] = loss.kl;
      line["gradient_norm"] = norm;
    }
    run_.log.write(line);
    if (!run_.progress || !team_.leads()) return;
    const std::string item =
        fmt::format("loss {:.3f}, rate {:.1e}, |gradient| {:.2f}, {:.0f} tokens/s, {:.2f} GB",
                    loss.loss, rate, norm, speed, static_cast<double>(memory) / 1e9);
    run_.progress(
        {"heal", item, state_.step * positions, options_.schedule.steps * positions, "tokens"});
  }

  void log_held_out(const HeldOutLoss& loss) {
    if (run_.held_out.empty()) return;
    run_.log.write({{"step", state_.step},
                    {"held_out_loss", loss.loss},
                    {"held_out_cross_entropy", loss.cross_entropy},
                    {"held_out_kl", loss.kl}});
  }

  bool due_for_evaluation() const {
    if (run_.held_out.empty()) return false;
    const bool last = state_.step == options_.schedule.steps;
    return last || (options_.evaluate_every > 0 && state_.step % options_.evaluate_every == 0);
  }

  void compare_with_best() {
    const HeldOutLoss now = evaluate();
    log_held_out(now);
    if (now.loss < state_.best_loss) {
      state_.best_loss = now.loss;
      state_.best_step = state_.step;
      state_.waited = 0;
      save_best();
    } else {
      ++state_.waited;
    }
  }

  bool patience_ended() const {
    return options_.patience > 0 && state_.waited >= options_.patience;
  }

  void save() {
    // Bucket by bucket: no rank ever holds the moments of all.
    const auto piece = [&](size_t b) {
      return Moments::Piece{sharding_.whole_bucket(team_.data, optimizer_.first_moment(), b),
                            sharding_.whole_bucket(team_.data, optimizer_.second_moment(), b)};
    };
    if (team_.leads_stage()) {
      run_.store.save(state_, run_.parameters, {optimizer_.steps(), bucket_sizes(), piece});
    } else {
      for (size_t b = 0; b < sharding_.buckets().size(); ++b) piece(b);
    }
    wait_for_all(team_.all);  // every stage has: until then the state before is needed
    if (team_.leads_stage()) run_.store.keep_only(state_.step);
    run_.save_points.saved();
  }

  std::vector<int64_t> bucket_sizes() const {
    std::vector<int64_t> sizes;
    for (const Bucket& bucket : sharding_.buckets()) sizes.push_back(bucket.slice.size());
    return sizes;
  }

  void restore(const Moments& moments) {
    const torch::Tensor first = at::empty_like(optimizer_.first_moment());
    const torch::Tensor second = at::empty_like(first);
    for (size_t b = 0; b < moments.sizes.size(); ++b) {
      const Moments::Piece whole = moments.piece(b);
      sharding_.take_bucket(whole.first, b, first);
      sharding_.take_bucket(whole.second, b, second);
    }
    optimizer_.restore(moments.steps, first, second);
  }

  void save_best() {
    if (team_.leads_stage()) run_.store.save_best(run_.parameters);
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
  Team& team_;
  const ModelLevelOptions& options_;
  const Sharding sharding_;
  GradientExchange exchanged_;
  AdamW optimizer_;
  const std::vector<size_t> tied_;  // among the pieces
  bool last_pass_ = false;          // of a step's backward passes
  RunState state_;
  HeldOutLoss before_;
  int64_t context_ = 0;  // tokens of a row
};

}  // namespace

nlohmann::json HeldOutLoss::json() const {
  return {{"loss", loss}, {"cross_entropy", cross_entropy}, {"kl", kl}};
}

HeldOutLoss HeldOutLoss::from_json(const nlohmann::json& json) {
  const auto number = [&](const char* key) {
    const nlohmann::json& value = json.at(key);
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  return {number("loss"), number("cross_entropy"), number("kl")};
}

ModelLevelResult heal_model(const ModelLevelRun& run, const ModelLevelOptions& options) {
  return Training(run, options).go();
}

}  // namespace schmidt::heal
