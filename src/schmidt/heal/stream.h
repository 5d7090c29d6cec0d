#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/heal/batch.h"
#include "schmidt/heal/document_file.h"
#include "schmidt/heal/example.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::heal {

/// A file of training text: .jsonl, or plain text under any other name.
struct Source {
  std::filesystem::path file;
  double share = 1.0;  ///< of the tokens, relative to the other sources'; above 0
};

struct StreamOptions {
  int64_t context = 512;          ///< tokens of a row, 2 or more
  LossOn loss_on = LossOn::kAll;  ///< of conversations
  bool skip_bad = false;          ///< leave out and count broken lines
  uint64_t seed = 0;              ///< of every order
  int64_t held_out = 0;           ///< rows that are kept for measuring, from all sources
};

/// Batches of training text without end, the same for the same files, options and seed.
///
///   document --(order of the epoch)--> windows of `context` --(share)--> 64 pending --> rows
///
/// Every epoch of a source goes through its documents in a new seeded order. The source
/// that is furthest behind its share gives the next window. A row begins with the window
/// that has waited longest and is filled by best fit; no window is ever split.
class Stream {
 public:
  /// Opens and checks the files. Refers to nothing that it is given.
  /// Throws c10::ValueError for options out of range, no source, a model without a known
  /// chat format where there are conversations, or files too short for `held_out`;
  /// FormatError, SystemError as DocumentFile does, a conversation that the model's format
  /// does not allow being a broken line; FormatError for a file in which nothing can be learned.
  Stream(const std::vector<Source>& sources, const text::Tokenizer& tokenizer,
         std::string model_type, const StreamOptions& options);

  /// The next rows. Throws c10::ValueError for rows < 1, FormatError or SystemError if a
  /// file has changed or cannot be read any more.
  Batch next(int64_t rows);

  /// The rows that are never trained on, each source's part of them by its share: the
  /// same for every state. Empty without `held_out`. The last batch may have fewer rows.
  /// Throws c10::ValueError for rows < 1.
  std::vector<Batch> held_out(int64_t rows) const;

  /// Where the stream stands. A stream of the same files and options continues after
  /// `restore` with the same batches as this one.
  nlohmann::json state() const;

  /// Throws c10::ValueError for what is no state, or one of other files or options.
  void restore(const nlohmann::json& state);

  /// Of the files' contents, their shares, the options and the chat format: the same
  /// fingerprint means the same batches of the same tokenizer.
  const std::string& fingerprint() const { return fingerprint_; }

  const text::Tokenizer& tokenizer() const { return tokenizer_; }

  int64_t skipped() const;                    ///< broken lines of all files
  int64_t tokens() const { return tokens_; }  ///< handed out, padding not counted
  double epochs() const;  ///< how often the first source's documents have been gone through

 private:
  /// Where a window comes from: the n-th of a document of a source.
  struct Place {
    int64_t source = 0, document = 0, window = 0;
  };
  struct Pending {
    Place place;
    Example window;
  };
  struct Cursor {
    int64_t epoch = 0;
    std::vector<int64_t> order;    // of the epoch's documents
    int64_t position = 0;          // in it, of the next document
    std::vector<Example> windows;  // of the document before that
    int64_t window = 0;            // of the next one
    int64_t given = 0;             // tokens
  };
  struct Reader {
    DocumentFile file;
    double share;
    std::vector<int64_t> held = {};  // documents never trained on, ascending
    Cursor at = {};
  };

  void open(const std::vector<Source>& sources);
  std::optional<std::string> refusal(const text::Document& document) const;
  void hold_out();
  std::vector<int64_t> order_of(int64_t source, int64_t epoch) const;
  std::vector<Example> windows_in(int64_t source, int64_t document);
  Cursor cursor_at(int64_t source, const nlohmann::json& state);
  Pending draw(int64_t source);
  void refill();

  text::Tokenizer tokenizer_;
  std::string model_type_;
  StreamOptions options_;
  std::vector<Reader> readers_;
  std::vector<std::vector<Example>> held_rows_;
  std::vector<Pending> pending_;
  int64_t tokens_ = 0;
  std::string fingerprint_;
};

}  // namespace schmidt::heal
