#include "schmidt/cli/sampling.h"

#include <algorithm>
#include <chrono>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/text/continuation.h"

namespace schmidt::cli {

void add_sampling_flags(CLI::App& verb, SamplingFlags& flags) {
  verb.add_option("-n,--max-tokens", flags.max_tokens, "Generate at most so many tokens")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--temperature,--temp", flags.sampling.temperature,
                  "0 takes the most likely token every time")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--top-k", flags.sampling.top_k,
                  "Draw from the K most likely tokens only (0: all)")
      ->check(kNonNegative)
      ->capture_default_str();
  verb.add_option("--top-p", flags.sampling.top_p,
                  "Draw from the most likely tokens that together have probability P")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--min-p", flags.sampling.min_p,
                  "Draw from tokens at least P times as likely as the most likely one")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb.add_option("--repetition-penalty,--repeat-penalty", flags.sampling.repetition_penalty,
                  "A value over 1 makes tokens that occurred before less likely")
      ->check(CLI::Range(model::kLeastRepetitionPenalty, model::kLargestRepetitionPenalty))
      ->capture_default_str();
  verb.add_option("--stop", flags.stop, "Stop before this text; may be given several times");
  verb.add_option(
          "--draft", flags.draft,
          "A smaller model of the same tokens, which proposes what MODEL will say: the same "
          "text, in less time where it is often right")
      ->type_name(kModelValue);
  verb.add_option("--draft-tokens", flags.draft_tokens, "Proposals of a round at most")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  verb.add_option("--draft-p-min", flags.draft_p_min,
                  "A round ends before a token that the draft gives a smaller probability")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

void check_sampling_options(const std::string& verb, const std::set<std::string>& given,
                            const SamplingFlags& flags) {
  check_options_are_read(verb, given,
                         {{{"--top-k", "--top-p", "--min-p"},
                           flags.sampling.temperature > 0.0,
                           "--temperature above 0"},
                          {{"--draft-tokens", "--draft-p-min"}, !flags.draft.empty(), "--draft"}});
}

std::unique_ptr<LoadedDraft> load_draft(const SamplingFlags& flags,
                                        const text::Tokenizer& tokenizer,
                                        const CommonOptions& options,
                                        const InferenceOptions& inference) {
  if (flags.draft.empty()) return nullptr;
  const io::Checkpoint checkpoint = open_checkpoint(flags.draft, options);
  const text::Tokenizer own = load_tokenizer(flags.draft, options);
  auto loaded =
      std::make_unique<LoadedDraft>(LoadedDraft{load_model(checkpoint, options, inference), {}});
  const int64_t vocabulary = loaded->model.config().vocab_size;
  const auto other = text::first_difference(own, tokenizer, vocabulary);
  TORCH_CHECK_VALUE(!other, "[draft] expected a model of the same tokens, got another token ",
                    other.value_or(0), " in ", flags.draft);
  loaded->draft.model = &loaded->model;
  loaded->draft.proposals = flags.draft_tokens;
  loaded->draft.least_probability = flags.draft_p_min;
  return loaded;
}

nlohmann::ordered_json to_json(const model::Draft& draft) {
  return {{"proposed", draft.proposed}, {"accepted", draft.accepted}};
}

void note_draft(const LoadedDraft* loaded, const CommonOptions& options) {
  if (loaded == nullptr || options.quiet) return;
  fmt::print(stderr, "note: {} of {} tokens that the draft proposed were accepted\n",
             loaded->draft.accepted, loaded->draft.proposed);
}

bool adds_bos(const text::Tokenizer& tokenizer) {
  const std::vector<int64_t> frame = tokenizer.encode("", {.add_special = true});
  return tokenizer.bos_id() && !frame.empty() && frame.front() == *tokenizer.bos_id();
}

void note_two_bos(const text::Tokenizer& tokenizer, const std::vector<int64_t>& prompt,
                  const CommonOptions& options, bool& said) {
  const auto bos = tokenizer.bos_id();
  if (said || options.quiet || !bos || prompt.size() < 2) return;
  if (prompt[0] != *bos || prompt[1] != *bos) return;
  said = true;
  fmt::print(stderr,
             "note: the text begins with two BOS tokens, {0} {0}: its own and the one that is set "
             "before every text\n",
             tokenizer.id_to_token(*bos));
}

Continuation continue_prompt(const model::Model& model, const text::Tokenizer& tokenizer,
                             const std::vector<int64_t>& prompt, Join join,
                             const SamplingFlags& flags, const CommonOptions& options,
                             model::KeptSequence& kept, LoadedDraft* loaded,
                             const std::function<void(const std::string&)>& show) {
  model::GenerateOptions generate_options;
  generate_options.max_new_tokens = flags.max_tokens;
  generate_options.sampling = flags.sampling;
  generate_options.sampling.seed = options.seed;
  std::vector<int64_t> ends = model.config().eos_ids;
  for (const int64_t id : tokenizer.stop_ids()) ends.push_back(id);
  for (const int64_t id : tokenizer.ids_without_token(model.config().vocab_size)) {
    // An end without a token ends the answer all the same.
    if (std::find(ends.begin(), ends.end(), id) == ends.end()) {
      generate_options.never_drawn.push_back(id);
    }
  }
  generate_options.eos_ids = std::move(ends);

  text::StreamDecoder decoder = text::answer_decoder(
      tokenizer, join == Join::kContinuation && text::has_text(tokenizer, prompt));
  text::StopStrings stop(flags.stop);
  Continuation result;
  const auto emit = [&](const std::string& piece) {
    result.text += piece;
    if (!piece.empty()) show(piece);
  };
  const auto on_token = [&](int64_t /*row*/, int64_t id) {
    emit(stop.push(decoder.push(id)));
    return !stop.stopped();
  };
  const auto start = std::chrono::steady_clock::now();
  model::Generation generation =
      loaded == nullptr
          ? model::generate(model, prompt, generate_options, kept, on_token)
          : model::generate(model, prompt, generate_options, kept, loaded->draft, on_token);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  emit(stop.push(decoder.flush()));
  emit(stop.flush());
  result.ids = std::move(generation.ids);
  const bool full = generation.finish == model::FinishReason::kLength && !stop.stopped();
  result.finish_reason = full ? "length" : "stop";
  return result;
}

}  // namespace schmidt::cli
