#include "schmidt/eval/self_text.h"

#include <algorithm>

#include <c10/core/InferenceMode.h>

#include "schmidt/model/generate.h"

namespace schmidt::eval {
namespace {

constexpr int64_t kRowsAtOnce = 16;

int64_t sample_count(const SelfTextOptions& options) {
  TORCH_CHECK_VALUE(options.tokens > 0 && options.length >= 2,
                    "[self text] expected tokens above 0 and a length of 2 or more, got ",
                    options.tokens, " and ", options.length);
  return (options.tokens + options.length - 1) / options.length;
}

int64_t start_token(const model::ModelConfig& config) {
  TORCH_CHECK_VALUE(config.bos_id || !config.eos_ids.empty(),
                    "[self text] expected a model that names a BOS or EOS token to start from");
  return config.bos_id ? *config.bos_id : config.eos_ids.front();
}

}  // namespace

int64_t self_batches(const SelfTextOptions& options) {
  return (sample_count(options) + kRowsAtOnce - 1) / kRowsAtOnce;
}

std::vector<std::vector<int64_t>> sample_self_batch(const model::Model& model,
                                                    const SelfTextOptions& options, int64_t batch,
                                                    const ProgressFn& progress) {
  const c10::InferenceMode guard;
  const int64_t start = start_token(model.config());
  const int64_t samples = sample_count(options);
  const int64_t total = samples * (options.length - 1);
  const int64_t first = batch * kRowsAtOnce;
  const int64_t rows = std::min(kRowsAtOnce, samples - first);
  int64_t drawn = first * (options.length - 1);

  model::GenerateOptions generate;
  generate.max_new_tokens = options.length - 1;
  generate.eos_ids.emplace();  // an end of text is text too: go on behind it
  generate.never_drawn = options.never_drawn;
  generate.sampling.temperature = 1.0;
  // Interleaved, so that no seed of one half is a seed of the other.
  const uint64_t half = options.half == SelfHalf::kHeldOut ? 1 : 0;
  generate.sampling.seed = options.seed * 1'000'003 + 2 * static_cast<uint64_t>(batch) + half;
  const auto on_token = [&](int64_t, int64_t) {
    if (progress && drawn % rows == 0) progress({"sample", "", drawn, total, "tokens"});
    ++drawn;
    return true;
  };
  const std::vector<std::vector<int64_t>> prompts(static_cast<size_t>(rows), {start});
  std::vector<std::vector<int64_t>> texts;
  for (model::Generation& row : model::generate(model, prompts, generate, on_token)) {
    texts.push_back({start});
    texts.back().insert(texts.back().end(), row.ids.begin(), row.ids.end());
  }
  return texts;
}

std::vector<int64_t> sample_self_text(const model::Model& model, const SelfTextOptions& options,
                                      const ProgressFn& progress) {
  std::vector<int64_t> text;
  for (int64_t batch = 0; batch < self_batches(options); ++batch) {
    for (const auto& sample : sample_self_batch(model, options, batch, progress)) {
      text.insert(text.end(), sample.begin(), sample.end());
    }
  }
  return text;
}

}  // namespace schmidt::eval
