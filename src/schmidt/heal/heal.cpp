#include "schmidt/heal/heal.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/work_folder.h"
#include "schmidt/heal/healed_checkpoint.h"
#include "schmidt/heal/pipeline.h"
#include "schmidt/heal/run_state.h"
#include "schmidt/heal/save_points.h"
#include "schmidt/heal/teacher_rows.h"
#include "schmidt/heal/trained_tensors.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/model/nf4_projection.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/package/summary.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kStamp = "work-";
constexpr const char* kTrained = "trained.safetensors";  // of a stage, in its folder

std::string work_fingerprint(const io::Checkpoint& student,
                             const std::optional<io::Checkpoint>& teacher, const Stream& stream,
                             const HealOptions& options, int64_t stages) {
  package::Fingerprint hash;
  hash.add(package::fingerprint(student))
      .add(stream.fingerprint())
      .add(io::json_text(recipe(options)));
  if (teacher) hash.add(package::fingerprint(*teacher));
  if (stages > 1) hash.add(fmt::format("{} stages", stages));  // each with a state of its own
  return hash.hex();
}

fs::path run_folder(const fs::path& partial) { return partial / "run"; }

/// Whether a run that was ended here has left something to go on from.
bool has_results(const fs::path& run) {
  for (const auto& entry : fs::recursive_directory_iterator(run)) {
    if (StateStore::is_state(entry.path()) || is_healed_block(entry.path()) ||
        StoredTeacher::is_record(entry.path())) {
      return true;
    }
  }
  return false;
}

/// Makes the folder of a run's own files, which is there if its work goes on.
WorkFolder claim(const AtomicFolder& folder, const std::string& work, const HealOptions& options) {
  WorkFolder run(run_folder(folder.path()), kStamp + work, has_results);
  const auto holds = run.holds_in_own_folder();
  if (!options.force) {
    TORCH_CHECK_VALUE(holds != WorkFolder::Holds::kOtherWork, "[output] ", folder.path().string(),
                      " holds unfinished work of another model, data set or recipe; expected the "
                      "same again (remove it, or force drops it)");
    TORCH_CHECK_VALUE(holds == WorkFolder::Holds::kNothing || options.resume, "[output] ",
                      folder.path().string(),
                      " holds unfinished work; expected to resume it (or force, which drops it)");
  }
  const bool goes_on = holds == WorkFolder::Holds::kThisWork && options.resume;
  if (!goes_on) remove_all_but(folder.path(), {});
  run.claim();
  return run;
}

/// Before any work is begun, and before a stored teacher is asked for hours.
/// Throws c10::ValueError where token ids mean something else to the teacher, as far as its
/// tokenizer can be read: the student's is the one that counts.
void check_tokens(const text::Tokenizer& student, const io::Checkpoint& teacher,
                  int64_t vocabulary) {
  std::optional<text::Tokenizer> read;
  try {
    read = text::Tokenizer::load(teacher.path());
  } catch (const FormatError&) {
    return;
  }
  const auto other = text::first_difference(student, *read, vocabulary);
  TORCH_CHECK_VALUE(!other, "[heal] expected a teacher of the same tokens, got another token ",
                    other.value_or(0), ": ", teacher.path().string());
}

void check_teacher(const io::Checkpoint& student, const text::Tokenizer& tokenizer,
                   const io::Checkpoint& teacher, const HealOptions& options) {
  const model::ModelConfig s = model::parse_config(student.config(), student.path());
  const model::ModelConfig t = model::parse_config(teacher.config(), teacher.path());
  TORCH_CHECK_VALUE(options.model_level.weights.kl == 0.0 || s.vocab_size == t.vocab_size,
                    "[heal] expected a teacher of the student's vocabulary, ", s.vocab_size,
                    " tokens, got one of ", t.vocab_size, ": ", teacher.path().string());
  TORCH_CHECK_VALUE(
      options.block_tokens == 0 || (s.num_layers == t.num_layers && s.hidden_size == t.hidden_size),
      "[heal] expected a teacher of ", s.num_layers, " blocks of width ", s.hidden_size,
      ", got one of ", t.num_layers, " of ", t.hidden_size, ": ", teacher.path().string());
  if (options.model_level.weights.kl > 0.0) check_tokens(tokenizer, teacher, s.vocab_size);
}

void check(const std::optional<io::Checkpoint>& teacher, const HealOptions& options) {
  const ModelLevelOptions& m = options.model_level;
  TORCH_CHECK_VALUE(m.weights.cross_entropy >= 0.0 && m.weights.kl >= 0.0 &&
                        m.weights.cross_entropy + m.weights.kl > 0.0,
                    "[heal] expected weights of cross entropy and KL of 0 or more, one of them "
                    "above, got ",
                    m.weights.cross_entropy, " and ", m.weights.kl);
  TORCH_CHECK_VALUE(teacher || (m.weights.kl == 0.0 && options.block_tokens == 0),
                    "[heal] expected a teacher, the original model, for the KL divergence or the "
                    "block level; a KL weight of 0 and no block tokens heal without");
  TORCH_CHECK_VALUE(options.tokens >= 0 && options.block_tokens >= 0,
                    "[heal] expected numbers of tokens, got ", options.tokens, " and ",
                    options.block_tokens);
}

int64_t step_tokens(const HealOptions& options) {
  return options.model_level.batch * options.stream.context;
}

/// Steps of one pass of the block level.
int64_t block_batches(const HealOptions& options) {
  return (options.block_tokens + step_tokens(options) - 1) / step_tokens(options);
}

class Healing {
 public:
  Healing(const io::Checkpoint& student, const std::optional<io::Checkpoint>& teacher,
          const HealOptions& options, const HealCallbacks& callbacks, Team& team)
      : student_(student),
        teacher_(teacher),
        options_(options),
        callbacks_(callbacks),
        team_(team),
        stream_(options.data, text::Tokenizer::load(student.path()),
                io::string_or(student.config(), "model_type", "", student.path()), options.stream),
        save_points_(team, callbacks.interrupted, options.save_minutes) {
    check(teacher, options);
    if (teacher) check_teacher(student, stream_.tokenizer(), *teacher, options);
    const int64_t vocabulary = model::parse_config(student.config(), student.path()).vocab_size;
    TORCH_CHECK_VALUE(options.top_k <= vocabulary, "[heal] expected a top-k of at most ",
                      vocabulary, ", the vocabulary, got ", options.top_k);
    const int64_t a_step = step_tokens(options);
    block_batches_ = block_batches(options);
    model_level_ = options.model_level;
    model_level_.schedule.steps = model_level_steps(options);
    TORCH_CHECK_VALUE(model_level_.schedule.steps + block_batches_ > 0, "[heal] expected ", a_step,
                      " tokens, one step, or more, got ", options.tokens);
    check_something_is_trained();
  }

  HealResult go(const fs::path& out) {
    std::optional<AtomicFolder> folder;  // held by the leader for all
    std::optional<WorkFolder> work;
    if (team_.leads()) {
      folder.emplace(out, options_.force, package::checkpoint_folder());
      work.emplace(claim(*folder,
                         work_fingerprint(student_, teacher_, stream_, options_, team_.grid.stages),
                         options_));
    }
    wait_for_all(team_.all);  // the folder is there
    const fs::path partial = partial_folder(out), run = run_folder(partial);
    RunLog log = team_.leads() ? RunLog(run / "heal.jsonl") : RunLog();
    if (team_.leads() && bytes_of_file(log.path()) == 0) log.write({{"run", recipe(options_)}});

    std::vector<Batch> block_text;
    for (int64_t b = 0; b < block_batches_; ++b) {
      block_text.push_back(stream_.next(options_.model_level.batch));
    }
    if (block_batches_ > 0) {
      if (!heal_blocks({team_, student_, *teacher_, options_.load, block_text, blocks_of(run), log,
                        save_points_, team_.leads() ? callbacks_.progress : ProgressFn{}},
                       block_level())) {
        return interrupted();
      }
      logged(log);
    }
    HealResult result;
    if (model_level_.schedule.steps > 0) {
      result = model_level(run, log);
      if (result.ended == Ended::kInterrupted) return result;
    }
    if (!team_.leads()) return result;
    remove_all_but(partial, run);  // what a run that was killed here had begun to write
    result.summary =
        write_healed(student_, TrainedTensors(trained_files(run)), recipe(options_), partial);
    copy_plain_file(log.path(), partial / "heal.jsonl");
    RunLog(partial / "heal.jsonl")
        .write({{"before", result.before.json()}, {"after", result.after.json()}});
    // What a run goes on from leaves last: a kill in between finds the old state or OUT.
    folder->commit();
    remove_tree(out / "run");
    result.skipped_lines = stream_.skipped();
    return result;
  }

 private:
  static HealResult interrupted() {
    HealResult result;
    result.ended = Ended::kInterrupted;
    return result;
  }

  void check_something_is_trained() const {
    const TrainedParts& parts = options_.trained;
    const auto is_reached = [&](const std::string& name) {
      return model_level_.schedule.steps > 0 || name.starts_with("model.layers.");
    };
    const package::ModelSummary summary = package::summarize(student_);
    const bool any_module = std::ranges::any_of(summary.modules, [&](const auto& module) {
      if (!is_reached(module.name) || module.kind == model::kNf4Kind.name) return false;
      if (module.kind == "norm") return parts.norms;
      if (module.compressed) return parts.factors;
      return module.name.starts_with("model.layers.") ? parts.dense : parts.embedding;
    });
    const bool any_codes = std::ranges::any_of(student_.tensors(), [&](const auto& tensor) {
      const std::string& name = tensor.first;
      const bool is_factor = name.find(".left.") != name.npos || name.find(".right.") != name.npos;
      return is_reached(name) && !is_factor &&
             ((parts.codes && name.ends_with(".weight_packed")) ||
              (parts.zeros && name.ends_with(".weight_zero_point")));
    });
    const bool any = any_module || any_codes;
    TORCH_CHECK_VALUE(any, "[heal] expected something to train, got a model without any of it");
  }

  static fs::path blocks_of(const fs::path& run) { return run / "blocks"; }

  /// The model level trained on from what the blocks had become, so that its files hold all.
  std::vector<fs::path> trained_files(const fs::path& run) const {
    std::vector<fs::path> files;
    if (model_level_.schedule.steps > 0) {
      for (int64_t s = 0; s < team_.grid.stages; ++s) {
        files.push_back(stage_folder(run, s) / kTrained);
      }
      return files;
    }
    const int64_t blocks = model::parse_config(student_.config(), student_.path()).num_layers;
    for (int64_t b = 0; b < blocks; ++b) {
      const fs::path file = healed_block(blocks_of(run), b);
      if (path_exists(file)) files.push_back(file);
    }
    return files;
  }

  BlockLevelOptions block_level() const {
    BlockLevelOptions options = options_.block_level;
    const ModelLevelOptions& model = options_.model_level;
    options.warmup = model.schedule.warmup;
    options.clip = model.clip;
    options.adamw = model.adamw;
    options.trained = options_.trained;
    return options;
  }

  void logged(const RunLog& log) const {
    if (callbacks_.logged && team_.leads()) callbacks_.logged(log.path());
  }

  /// Trains from what the blocks have become, if they were healed, and leaves what came of it
  /// in the stages' folders.
  HealResult model_level(const fs::path& run, RunLog& log) {
    const std::vector<Batch> held_out = stream_.held_out(options_.model_level.micro_batch);
    const std::optional<TeacherRows> teacher = teacher_rows(run, held_out);
    if (!teacher) return interrupted();
    const std::optional<model::Model> teacher_part = teacher_of_stage();
    model::LoadOptions load = to_train(options_.load, options_.trained, teacher_);
    model::Model student = part_of(student_, load);
    std::vector<model::NamedTensor> masters = student.parameters();
    if (load.dtype != torch::kFloat32) {
      load.dtype = torch::kFloat32;
      masters = part_of(student_, load).parameters();
    }
    Parameters parameters(student.parameters(), masters, options_.trained);
    masters.clear();
    const auto [first, last] = blocks_of_stage(student_);
    for (int64_t b = first; b < last && block_batches_ > 0; ++b) {
      const bool trained = std::ranges::any_of(parameters.pieces(), [&](const auto& piece) {
        return piece.name.starts_with(model::block_prefix(b));
      });
      if (trained) parameters.set(io::load_safetensors(healed_block(blocks_of(run), b)));
    }
    const fs::path folder = stage_folder(run, team_.grid.stage);
    make_folders(folder);
    const ModelLevelResult healed =
        heal_model({team_, student, parameters, *teacher, teacher_part ? &*teacher_part : nullptr,
                    stream_, held_out, StateStore(folder), log, save_points_,
                    [&](const Progress& p) {
                      if (callbacks_.progress) callbacks_.progress(p);
                      logged(log);
                    }},
                   model_level_);
    if (healed.ended != Ended::kInterrupted) {
      if (team_.leads_stage()) TrainedTensors::save(folder / kTrained, parameters);
      wait_for_all(team_.all);  // every stage's file is there
    }
    return {healed.ended, healed.steps, healed.before, healed.after, {}, 0};
  }

  /// [first, last) of this rank's stage.
  std::pair<int64_t, int64_t> blocks_of_stage(const io::Checkpoint& checkpoint) const {
    const std::vector<int64_t> cuts = cut_blocks(block_work(checkpoint), team_.grid.stages);
    const auto stage = static_cast<size_t>(team_.grid.stage);
    return {cuts[stage], cuts[stage + 1]};
  }

  /// The blocks of this rank's stage.
  model::Model part_of(const io::Checkpoint& checkpoint, const model::LoadOptions& load) const {
    if (team_.grid.stages == 1) return model::Model::load(checkpoint, load);
    const auto [first, last] = blocks_of_stage(checkpoint);
    return model::Model::load_part(checkpoint, first, last, load);
  }

  fs::path stage_folder(const fs::path& run, int64_t stage) const {
    return team_.grid.stages == 1 ? run : run / fmt::format("stage-{}", stage);
  }

  bool needs_teacher() const { return teacher_ && options_.model_level.weights.kl != 0.0; }

  std::optional<model::Model> teacher_of_stage() const {
    if (!needs_teacher() || team_.grid.stages == 1 || options_.top_k > 0) return std::nullopt;
    return part_of(*teacher_, options_.load);
  }

  /// None if interrupted; empty where no rows are asked for.
  std::optional<TeacherRows> teacher_rows(const fs::path& run, const std::vector<Batch>& held_out) {
    if (!needs_teacher()) return TeacherRows();
    if (options_.top_k > 0) return stored_teacher(run, held_out);
    if (team_.grid.stages > 1) return TeacherRows();
    const auto teacher =
        std::make_shared<model::Model>(model::Model::load(*teacher_, options_.load));
    return [teacher, rows = live_teacher(*teacher)](
               const Batch& batch, const torch::Tensor& counted, int64_t first_row) {
      return rows(batch, counted, first_row);
    };
  }

  /// The first replica asks the teacher for all rows of the run and of the held-out set; its
  /// last stage, where the teacher's logits come to be, stores what it answers.
  /// None if interrupted.
  std::optional<TeacherRows> stored_teacher(const fs::path& run,
                                            const std::vector<Batch>& held_out) {
    const int64_t batch = options_.model_level.batch, steps = model_level_.schedule.steps;
    int64_t rows = steps * batch;
    for (const Batch& held : held_out) rows += held.ids.size(0);
    const auto open = [&] {
      return StoredTeacher(run / "teacher", rows, options_.stream.context, options_.top_k);
    };
    const bool asks = team_.grid.replica == 0, writes = asks && team_.grid.last();
    std::optional<StoredTeacher> store;
    if (writes) store = open();
    const auto stored = static_cast<int64_t>(
        sum_over(team_.all, {writes ? static_cast<double>(store->stored()) : 0.0})[0]);
    std::optional<model::Model> teacher;
    if (asks && stored < rows) teacher = part_of(*teacher_, options_.load);

    const json start = stream_.state();
    int64_t done = 0;
    const auto add = [&](const Batch& next) {
      // Every row is on disk as soon as it is known. Nobody waits for longer than a batch.
      if (save_points_.ask().stop) return false;
      if (callbacks_.progress && team_.leads()) {
        callbacks_.progress({"ask the teacher", "", done, rows, "rows"});
      }
      const int64_t known = std::clamp<int64_t>(stored - done, 0, next.ids.size(0));
      if (asks && known < next.ids.size(0)) {
        const at::NoGradGuard no_grad;
        run_pipeline({team_.pipeline, *teacher},
                     {narrow_rows(next, known, next.ids.size(0) - known)},
                     [&](size_t, const FinalHidden& hidden) -> torch::Tensor {
                       store->append(*teacher, hidden.student);
                       return {};
                     });
      }
      done += next.ids.size(0);
      return true;
    };
    for (int64_t s = 0; s < steps; ++s) {
      if (!add(stream_.next(batch))) return std::nullopt;
    }
    for (const Batch& held : held_out) {
      if (!add(held)) return std::nullopt;
    }
    stream_.restore(start);
    wait_for_all(team_.all);
    if (!team_.grid.last()) return TeacherRows();
    return (store ? *store : open()).rows();
  }

  const io::Checkpoint& student_;
  const std::optional<io::Checkpoint>& teacher_;
  const HealOptions& options_;
  const HealCallbacks& callbacks_;
  Team& team_;
  Stream stream_;
  int64_t block_batches_ = 0;
  ModelLevelOptions model_level_;
  SavePoints save_points_;
};

}  // namespace

int64_t model_level_steps(const HealOptions& options) {
  const int64_t a_step = step_tokens(options);
  const int64_t block_tokens = block_batches(options) * a_step * options.block_level.epochs;
  return std::max<int64_t>(0, options.tokens - block_tokens) / a_step;
}

json recipe(const HealOptions& options) {
  const ModelLevelOptions& m = options.model_level;
  json made = {{"step", "heal"},
               {"tokens", options.tokens},
               {"block_tokens", options.block_tokens},
               {"context", options.stream.context},
               {"loss_on", options.stream.loss_on == LossOn::kAll ? "all" : "assistant"},
               {"held_out", options.stream.held_out},
               {"seed", options.stream.seed},
               {"batch", m.batch},
               {"cross_entropy", m.weights.cross_entropy},
               {"kl", m.weights.kl},
               {"top_k", options.top_k},
               {"learning_rate", m.schedule.peak},
               {"warmup", m.schedule.warmup},
               {"final_share", m.schedule.final_share},
               {"beta1", m.adamw.beta1},
               {"beta2", m.adamw.beta2},
               {"weight_decay", m.adamw.weight_decay},
               {"clip", m.clip},
               {"evaluate_every", m.evaluate_every},
               {"patience", m.patience},
               {"dtype", options.load.dtype == torch::kFloat32 ? "float32" : "bfloat16"},
               {"trained",
                {{"factors", options.trained.factors},
                 {"codes", options.trained.codes},
                 {"zeros", options.trained.zeros},
                 {"dense", options.trained.dense},
                 {"norms", options.trained.norms},
                 {"embedding", options.trained.embedding}}}};
  for (const Source& source : options.data) {
    made["data"].push_back({{"file", source.file.filename().string()}, {"share", source.share}});
  }
  if (options.block_tokens > 0) {
    made["block_epochs"] = options.block_level.epochs;
    made["block_learning_rate"] = options.block_level.learning_rate;
  }
  return made;
}

HealResult heal(const io::Checkpoint& student, const std::optional<io::Checkpoint>& teacher,
                const fs::path& out, const HealOptions& options, const HealCallbacks& callbacks,
                Team& team) {
  return Healing(student, teacher, options, callbacks, team).go(out);
}

HealResult heal(const io::Checkpoint& student, const std::optional<io::Checkpoint>& teacher,
                const fs::path& out, const HealOptions& options, const HealCallbacks& callbacks) {
  Team team = alone();
  return heal(student, teacher, out, options, callbacks, team);
}

}  // namespace schmidt::heal
