#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "schmidt/text/documents.h"

namespace schmidt::heal {

struct DocumentFileOptions {
  int64_t piece = 16384;  ///< bytes of plain text that make a document, about
  bool skip_bad = false;  ///< leave out and count broken records instead of refusing the file
  text::Refusal refusal;  ///< called with every record's document once, when the file is opened
};

/// A file of text as documents that are read one at a time, in any order: of each only
/// its offset is in memory.
///
///   .jsonl, .json  a document is a record, as text::parse_document reads it: a line, or an
///                  element of the one array that the file is
///   other names    a document is a piece of plain text: whole lines, until they reach
///                  `piece` bytes; a line four times as long is cut, at a space if it has one
///
/// The whole file is read and checked once at the beginning, so that no mistake in it ends
/// work that has gone on for hours.
class DocumentFile {
 public:
  /// Throws FormatError naming the line for one that is no document or is refused, for
  /// text that is not UTF-8, for a file that has no document left, and for one that is no
  /// regular file; SystemError if it cannot be read.
  DocumentFile(std::filesystem::path path, const DocumentFileOptions& options);

  int64_t size() const { return static_cast<int64_t>(places_.size()); }
  int64_t skipped() const { return skipped_; }  ///< broken records
  const std::filesystem::path& path() const { return path_; }
  const std::string& content_hash() const { return hash_; }  ///< of all bytes

  /// Document i of 0 .. size() - 1. Throws FormatError if the file has changed such that
  /// there is none any more, SystemError if it cannot be read.
  text::Document read(int64_t i);

 private:
  void index_records(const DocumentFileOptions& options);
  void index_pieces(const DocumentFileOptions& options);

  std::filesystem::path path_;
  std::ifstream in_;
  text::DocumentForm form_;
  std::vector<text::Record> places_;
  int64_t skipped_ = 0;
  std::string hash_;
};

}  // namespace schmidt::heal
