#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "schmidt/cli/loading.h"
#include "schmidt/model/generate.h"
#include "schmidt/model/speculate.h"
#include "schmidt/text/stop_strings.h"

namespace schmidt::cli {

/// What generate and chat take alike; names and defaults as llama.cpp's users know them.
struct SamplingFlags {
  int64_t max_tokens = 256;
  model::SamplingOptions sampling{.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05};
  std::vector<std::string> stop;
  std::string draft;  // a smaller model that runs ahead; none where empty
  int64_t draft_tokens = 8;
  double draft_p_min = 0.5;
};

void add_sampling_flags(CLI::App& verb, SamplingFlags& flags);

/// Throws c10::ValueError for one of them that was given and that the others leave without effect.
void check_sampling_options(const std::string& verb, const std::set<std::string>& given,
                            const SamplingFlags& flags);

/// A draft model in memory.
struct LoadedDraft {
  model::Model model;
  model::Draft draft;
};

/// The model of --draft; null without one. Throws c10::ValueError unless its tokens are those of
/// `tokenizer`.
std::unique_ptr<LoadedDraft> load_draft(const SamplingFlags& flags,
                                        const text::Tokenizer& tokenizer,
                                        const CommonOptions& options,
                                        const InferenceOptions& inference);

/// What came of it, as the value of "draft" in JSON.
nlohmann::ordered_json to_json(const model::Draft& draft);
/// The same as a line on stderr, unless options are quiet.
void note_draft(const LoadedDraft* loaded, const CommonOptions& options);

struct Continuation {
  std::string text;
  std::vector<int64_t> ids;
  std::string finish_reason;  ///< "stop" (end of text, stop string) or "length"
  double seconds = 0.0;       ///< of reading the prompt and writing the answer
};

/// Whether the tokenizer sets a BOS token before a text of itself.
bool adds_bos(const text::Tokenizer& tokenizer);

/// Says on stderr, once as `said` keeps, that a prompt begins with two BOS tokens. Quiet options
/// say nothing.
void note_two_bos(const text::Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                  const CommonOptions& options, bool& said);

/// What an answer is beside its prompt.
enum class Join {
  kAnswer,        ///< a text of its own, as that of a chat
  kContinuation,  ///< goes on within the prompt's text, and keeps a space that it begins with
};

/// Continues `prompt` and hands the text to `show` as it comes, in whole characters.
/// `kept` takes along what was computed for the prompts before; `loaded`, which may be null,
/// runs ahead.
Continuation continue_prompt(const model::Model& model, const text::Tokenizer& tokenizer,
                             const std::vector<int64_t>& prompt, Join join,
                             const SamplingFlags& flags, const CommonOptions& options,
                             model::KeptSequence& kept, LoadedDraft* loaded,
                             const std::function<void(const std::string&)>& show);

}  // namespace schmidt::cli
