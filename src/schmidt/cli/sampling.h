#pragma once

#include <set>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "schmidt/cli/loading.h"
#include "schmidt/model/generate.h"
#include "schmidt/text/stop_strings.h"

namespace schmidt::cli {

/// What generate and chat take alike; names and defaults as llama.cpp's users know them.
struct SamplingFlags {
  int64_t max_tokens = 256;
  model::SamplingOptions sampling{.temperature = 0.8, .top_k = 40, .top_p = 0.95, .min_p = 0.05};
  std::vector<std::string> stop;
};

void add_sampling_flags(CLI::App& verb, SamplingFlags& flags);

/// Throws c10::ValueError for one of them that was given and that the others leave without effect.
void check_sampling_options(const std::string& verb, const std::set<std::string>& given,
                            const SamplingFlags& flags);

struct Continuation {
  std::string text;
  std::vector<int64_t> ids;
  std::string finish_reason;  ///< "stop" (end of text, stop string) or "length"
};

/// Whether the tokenizer sets a BOS token before a text of itself.
bool adds_bos(const text::Tokenizer& tokenizer);

/// Says on stderr, once as `said` keeps, that a prompt begins with two BOS tokens. Quiet options
/// say nothing.
void note_two_bos(const text::Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                  const CommonOptions& options, bool& said);

/// Continues `prompt` and hands the text to `show` as it comes, in whole characters.
/// `kept` takes along what was computed for the prompts before.
Continuation continue_prompt(const model::Model& model, const text::Tokenizer& tokenizer,
                             const std::vector<int64_t>& prompt, const SamplingFlags& flags,
                             const CommonOptions& options, model::KeptSequence& kept,
                             const std::function<void(const std::string&)>& show);

}  // namespace schmidt::cli
