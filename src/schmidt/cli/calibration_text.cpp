#include "schmidt/cli/calibration_text.h"

#include <random>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/calibrate/windows.h"
#include "schmidt/cli/loading.h"
#include "schmidt/eval/self_text.h"
#include "schmidt/text/chat.h"
#include "schmidt/text/documents.h"

namespace schmidt::cli {
namespace {

std::vector<int64_t> file_ids(const std::string& file, const text::Tokenizer& tokenizer,
                              const std::string& model_type, const CalibrationOptions& options,
                              uint64_t seed, bool quiet) {
  text::Documents read = text::read_documents(file, {options.skip_bad});
  if (read.skipped > 0 && !quiet) {
    fmt::print(stderr, "{}: {} broken lines were left out\n", file, read.skipped);
  }
  std::mt19937_64 random(seed);
  for (size_t i = read.documents.size(); i > 1; --i) {
    std::swap(read.documents[i - 1], read.documents[random() % i]);
  }
  std::vector<int64_t> ids;
  for (const text::Document& document : read.documents) {
    const std::string content =
        document.messages.empty()
            ? document.text
            : text::format_chat(tokenizer, model_type, document.messages, false);
    const auto more = tokenizer.encode(content, {true, false});
    ids.insert(ids.end(), more.begin(), more.end());
    // Conversations come in a random order already: no more of them than can be used.
    if (read.documents.size() > 1 && std::cmp_greater(ids.size(), options.tokens)) break;
  }
  return ids;
}

}  // namespace

void add_calibration_options(CLI::App& verb, CalibrationOptions& options) {
  verb.add_option("--calibration", options.files,
                  "Text and .jsonl files in equal parts; \"self\": sampled from the model")
      ->delimiter(',')
      ->capture_default_str();
  verb.add_option("--calibration-tokens", options.tokens, "Tokens of it that are used")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_option("--calibration-context", options.context, "Tokens in a window of it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  verb.add_flag("--skip-bad", options.skip_bad, "Leave out broken lines of .jsonl files");
}

torch::Tensor calibration_text(const io::Checkpoint& checkpoint, const CalibrationOptions& options,
                               const CommonOptions& common, const ProgressFn& progress) {
  const int64_t context = std::min(
      options.context, model::parse_config(checkpoint.config(), checkpoint.path()).max_positions);
  std::optional<text::Tokenizer> tokenizer;
  std::vector<std::vector<int64_t>> texts;
  for (const std::string& file : options.files) {
    if (file == "self") {
      eval::SelfTextOptions self;
      self.tokens = options.tokens / static_cast<int64_t>(options.files.size());
      self.length = context;
      self.seed = common.seed;
      self.half = eval::SelfHalf::kCalibration;
      texts.push_back(eval::sample_self_text(load_model(checkpoint, common), self, progress));
      continue;
    }
    if (!tokenizer) tokenizer = text::Tokenizer::load(checkpoint.path());
    texts.push_back(file_ids(file, *tokenizer, checkpoint.config().value("model_type", ""), options,
                             common.seed, common.quiet));
    TORCH_CHECK_VALUE(std::cmp_greater_equal(texts.back().size(), context), "[calibration] ", file,
                      " has ", texts.back().size(), " tokens; expected at least one window of ",
                      context);
  }
  const torch::Tensor windows =
      calibrate::calibration_windows(texts, context, options.tokens, common.seed);
  if (windows.numel() < options.tokens / context * context && !common.quiet) {
    fmt::print(stderr, "calibration: the texts have {} tokens in whole windows, of {} asked for\n",
               windows.numel(), options.tokens);
  }
  return windows;
}

}  // namespace schmidt::cli
