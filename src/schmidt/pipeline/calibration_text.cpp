#include "schmidt/pipeline/calibration_text.h"

#include <optional>
#include <random>
#include <utility>

#include <ATen/ops/tensor.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/calibrate/windows.h"
#include "schmidt/eval/self_text.h"
#include "schmidt/io/json.h"
#include "schmidt/model/model.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/text/chat.h"
#include "schmidt/text/documents.h"

namespace schmidt::pipeline {

text::Tokenizer load_tokenizer(const io::Checkpoint& checkpoint, const Reporter& reporter) {
  text::Tokenizer tokenizer = text::Tokenizer::load(checkpoint.path());
  for (const std::string& note : tokenizer.notes()) reporter.tell(note);
  return tokenizer;
}

namespace {

// Text of the model's own needs no tokenizer: of one that is absent or of another kind nothing
// is known, and every id may be drawn.
std::vector<int64_t> ids_without_token(const io::Checkpoint& checkpoint, const Reporter& reporter) {
  const int64_t vocabulary = model::parse_config(checkpoint.config(), checkpoint.path()).vocab_size;
  try {
    return load_tokenizer(checkpoint, reporter).ids_without_token(vocabulary);
  } catch (const FormatError&) {
    return {};
  }
}

std::vector<int64_t> file_ids(const std::string& file, const text::Tokenizer& tokenizer,
                              const std::string& model_type, const CalibrationText& text,
                              const Reporter& reporter) {
  const auto refusal = [&](const text::Document& document) {
    return document.messages.empty() ? std::nullopt
                                     : text::chat_refusal(tokenizer, model_type, document.messages);
  };
  text::Documents read = text::read_documents(file, {text.skip_bad, refusal});
  if (read.skipped > 0) {
    reporter.tell(fmt::format("{}: {} broken lines were left out", file, read.skipped));
  }
  std::mt19937_64 random(text.seed);
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
    if (read.documents.size() > 1 && std::cmp_greater(ids.size(), text.tokens)) break;
  }
  return ids;
}

torch::Tensor drawn(const io::Checkpoint& checkpoint, const CalibrationText& text,
                    const model::LoadOptions& load, const Reporter& reporter) {
  const int64_t context = std::min(
      text.context, model::parse_config(checkpoint.config(), checkpoint.path()).max_positions);
  std::optional<text::Tokenizer> tokenizer;
  std::vector<std::vector<int64_t>> texts;
  for (const std::string& file : text.files) {
    if (file == "self") {
      eval::SelfTextOptions self;
      self.tokens = text.tokens / static_cast<int64_t>(text.files.size());
      self.length = context;
      self.seed = text.seed;
      self.half = eval::SelfHalf::kCalibration;
      self.never_drawn = ids_without_token(checkpoint, reporter);
      texts.push_back(
          eval::sample_self_text(model::Model::load(checkpoint, load), self, reporter.progress));
      continue;
    }
    if (!tokenizer) tokenizer = load_tokenizer(checkpoint, reporter);
    texts.push_back(file_ids(
        file, *tokenizer, io::string_or(checkpoint.config(), "model_type", "", checkpoint.path()),
        text, reporter));
    TORCH_CHECK_VALUE(std::cmp_greater_equal(texts.back().size(), context), "[calibration] ", file,
                      " has ", texts.back().size(), " tokens; expected at least one window of ",
                      context);
  }
  const torch::Tensor windows =
      calibrate::calibration_windows(texts, context, text.tokens, text.seed);
  if (windows.numel() < text.tokens / context * context) {
    reporter.tell(
        fmt::format("calibration: the texts have {} tokens in whole windows, of {} asked for",
                    windows.numel(), text.tokens));
  }
  return windows;
}

}  // namespace

nlohmann::json to_json(const CalibrationText& text) {
  return {{"files", text.files},
          {"tokens", text.tokens},
          {"context", text.context},
          {"skip_bad", text.skip_bad},
          {"seed", text.seed}};
}

CalibrationText parse_calibration_text(const io::JsonRecord& record) {
  constexpr int64_t kMost = int64_t{1} << 62;
  return {
      .files = record.texts("files"),
      // A short text gives fewer than were asked for, which decide what is drawn.
      .tokens = record.integer(record.has("tokens_asked") ? "tokens_asked" : "tokens", 1, kMost),
      .context = record.integer("context", 1, kMost),
      .skip_bad = record.flag("skip_bad"),
      .seed = static_cast<uint64_t>(record.integer("seed", 0, kMost))};
}

torch::Tensor calibration_windows(const io::Checkpoint& checkpoint, const CalibrationText& text,
                                  const model::LoadOptions& load, const Reporter& reporter) {
  nlohmann::json sent;
  if (parallel::rank() == 0) {
    const torch::Tensor windows = drawn(checkpoint, text, load, reporter).contiguous();
    sent = {{"shape", windows.sizes().vec()},
            {"ids", std::vector<int64_t>(windows.const_data_ptr<int64_t>(),
                                         windows.const_data_ptr<int64_t>() + windows.numel())}};
  }
  const auto received = nlohmann::json::parse(parallel::broadcast(sent.dump()));
  return at::tensor(received["ids"].get<std::vector<int64_t>>(), torch::kInt64)
      .view(received["shape"].get<std::vector<int64_t>>());
}

}  // namespace schmidt::pipeline
