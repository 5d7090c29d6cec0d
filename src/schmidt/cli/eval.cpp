#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "schmidt/cli/console.h"
#include "schmidt/cli/eval_tasks.h"
#include "schmidt/cli/loading.h"
#include "schmidt/cli/read_options.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/eval/perplexity.h"
#include "schmidt/eval/self_text.h"
#include "schmidt/io/json.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/text/chat.h"
#include "schmidt/text/documents.h"

namespace schmidt::cli {
namespace {

struct EvalOptions {
  CommonOptions common;
  std::string model;
  std::vector<std::string> texts;
  std::string reference;
  bool no_special = false;
  int64_t self_tokens = 8192;
  eval::PerplexityOptions perplexity;
  TaskVerbOptions tasks;
};

struct FileResult {
  std::string text;
  std::string fingerprint;  // of its tokens
  eval::Evaluation evaluation;
};

// One loaded model with what turns a file into its ids.
struct Loaded {
  io::Checkpoint checkpoint;
  text::Tokenizer tokenizer;
  model::Model model;

  Loaded(const std::string& path, const CommonOptions& options)
      : checkpoint(open_checkpoint(path, options)),
        tokenizer(load_tokenizer(path, options)),
        model(load_model(checkpoint, options,
                         {.activations = kernels::Activations::kExact,
                          .networks = model::Networks::kAsStored})) {}
};

// A plain text is one piece. Of a file of records each is one, conversations as the model's
// format writes them.
std::vector<std::string> pieces_of(const std::string& file, const Loaded& model) {
  std::string content = read_text(file);
  if (text::document_form(file, content) == text::DocumentForm::kText) return {std::move(content)};
  const std::string& model_type = model.model.config().model_type;
  const auto refusal = [&](const text::Document& document) {
    return document.messages.empty()
               ? std::nullopt
               : text::chat_refusal(model.tokenizer, model_type, document.messages);
  };
  std::vector<std::string> pieces;
  for (text::Document& document : text::read_documents(file, {false, refusal}).documents) {
    pieces.push_back(document.messages.empty()
                         ? std::move(document.text)
                         : text::format_chat(model.tokenizer, model_type, document.messages,
                                             /*generation_prompt=*/false));
  }
  return pieces;
}

std::vector<int64_t> ids_of(const EvalOptions& options, const std::string& text,
                            const Loaded& model, const Loaded* reference,
                            const ProgressFn& progress) {
  if (text == "self") {
    eval::SelfTextOptions self;
    self.tokens = options.self_tokens;
    self.length = options.perplexity.context;
    self.seed = options.common.seed;
    const Loaded& author = reference != nullptr ? *reference : model;
    self.never_drawn = author.tokenizer.ids_without_token(author.model.config().vocab_size);
    return eval::sample_self_text(author.model, self, progress);
  }
  const std::vector<std::string> pieces = pieces_of(text, model);
  const auto encode = [&](const text::Tokenizer& tokenizer) {
    std::vector<int64_t> ids;
    for (const std::string& piece : pieces) {
      const auto more = tokenizer.encode(piece, {!options.no_special, false});
      ids.insert(ids.end(), more.begin(), more.end());
    }
    return ids;
  };
  std::vector<int64_t> ids = encode(model.tokenizer);
  TORCH_CHECK_VALUE(reference == nullptr || encode(reference->tokenizer) == ids,
                    "[eval] expected models with one tokenizer; ", text, " has other token ids in ",
                    options.reference);
  return ids;
}

nlohmann::ordered_json score_json(const eval::TextScore& score) {
  return {{"perplexity", score.perplexity},
          {"nll", score.nll},
          {"nll_stderr", score.nll_stderr},
          {"tokens", score.tokens}};
}

void print_json(const EvalOptions& options, const std::vector<FileResult>& results) {
  nlohmann::ordered_json out = {{"model", options.model}, {"context", options.perplexity.context}};
  if (!options.reference.empty()) out["reference"] = options.reference;
  for (const FileResult& r : results) {
    nlohmann::ordered_json entry = {{"text", r.text}, {"fingerprint", r.fingerprint}};
    entry.update(score_json(r.evaluation.model));
    if (r.evaluation.reference) entry["reference"] = score_json(*r.evaluation.reference);
    if (const auto& d = r.evaluation.divergence) {
      entry["kl"] = {{"mean", d->mean}, {"median", d->median}, {"p90", d->p90},
                     {"p99", d->p99},   {"p999", d->p999},     {"max", d->max}};
      entry["top1_agreement"] = d->top1_agreement;
    }
    out["texts"].push_back(std::move(entry));
  }
  fmt::print("{}\n", io::json_text(out));
}

void print_table(const std::vector<FileResult>& results) {
  const bool compared = results.front().evaluation.divergence.has_value();
  Table table;
  table.header = {"text", "tokens", "perplexity", "nll", "+-"};
  if (compared) {
    table.header.insert(table.header.end(), {"reference ppl", "KL mean", "median", "90 %", "99 %",
                                             "99.9 %", "max", "same top-1 %"});
  }
  for (const FileResult& r : results) {
    const eval::TextScore& s = r.evaluation.model;
    std::vector<std::string> row = {
        r.text, std::to_string(s.tokens), fmt::format("{:.4f}", s.perplexity),
        fmt::format("{:.4f}", s.nll), fmt::format("{:.4f}", s.nll_stderr)};
    if (const auto& d = r.evaluation.divergence) {
      row.push_back(fmt::format("{:.4f}", r.evaluation.reference->perplexity));
      for (const double v : {d->mean, d->median, d->p90, d->p99, d->p999, d->max}) {
        row.push_back(fmt::format("{:.4f}", v));
      }
      row.push_back(fmt::format("{:.2f}", 100.0 * d->top1_agreement));
    }
    table.rows.push_back(std::move(row));
  }
  fmt::print("{}", table.aligned());
}

void run(const EvalOptions& options) {
  apply_common_options(options.common);
  const Loaded model(options.model, options.common);
  std::optional<Loaded> reference;
  if (!options.reference.empty()) reference.emplace(options.reference, options.common);
  const Loaded* const reference_or_null = reference ? &*reference : nullptr;

  std::vector<FileResult> results;
  ProgressLine progress(options.common.quiet);
  for (const std::string& text : options.texts) {
    const auto ids = ids_of(options, text, model, reference_or_null, progress.callback());
    results.push_back({text, package::Fingerprint().add(torch::tensor(ids)).hex(),
                       eval::evaluate_text(model.model, reference ? &reference->model : nullptr,
                                           ids, options.perplexity, progress.callback())});
  }
  progress.clear();
  if (options.common.json) {
    print_json(options, results);
  } else {
    print_table(results);
  }
}

}  // namespace

Action add_eval(CLI::App& verb) {
  auto options = std::make_shared<EvalOptions>();
  add_model_argument(verb, options->model);
  verb.add_option(
          "--text", options->texts,
          "Text, .jsonl and .json files; \"self\" for a text sampled from the reference, or "
          "from MODEL")
      ->type_name(kFileValue);
  add_task_options(verb, options->tasks);
  verb.add_option("--reference", options->reference,
                  "Model to compare with: print its perplexity and the KL divergence from it, or "
                  "how much of its scores is left")
      ->type_name(kModelValue);
  verb.add_option("--context", options->perplexity.context, "Tokens in a window")
      ->capture_default_str();
  verb.add_option("--max-tokens", options->perplexity.max_tokens,
                  "Only the first N tokens of each text (0: all)");
  verb.add_flag("--no-special", options->no_special,
                "Take special tokens in the text as plain text");
  verb.add_option("--self-tokens", options->self_tokens, "Length of the text \"self\", in tokens")
      ->check(kPositive)
      ->capture_default_str();
  add_common_options(verb, options->common);
  const auto check = [options, &verb] {
    const bool asks = !options->tasks.recipe.tasks.empty();
    TORCH_CHECK_VALUE(asks == options->texts.empty(), "[eval] expected either --text or --tasks, ",
                      asks ? "got both" : "got neither");
    const auto self = std::ranges::count(options->texts, "self");
    check_options_are_read(
        "eval", given_options(verb),
        {{{"--context", "--max-tokens"}, !asks, "--text"},
         {{"--data", "--limit", "--fewshot", "--out", "--force"}, asks, "--tasks"},
         {{"--force"}, !options->tasks.out.empty(), "--out"},
         {{"--self-tokens"}, self > 0, "--text self"},
         {{"--no-special"},
          std::cmp_less(self, options->texts.size()),
          "a --text that is a file"}});
  };
  return {check, [options] {
            if (options->tasks.recipe.tasks.empty()) {
              run(*options);
            } else {
              run_tasks(options->common, options->model, options->reference, options->tasks);
            }
          }};
}

}  // namespace schmidt::cli
