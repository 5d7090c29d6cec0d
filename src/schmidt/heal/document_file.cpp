#include "schmidt/heal/document_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/text/utf8.h"

namespace schmidt::heal {
namespace {

namespace fs = std::filesystem;

std::ifstream opened(const fs::path& path) {
  std::error_code code;
  const fs::file_status status = fs::status(path, code);
  if (fs::is_directory(status)) throw SystemError("cannot read", path, EISDIR);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw FormatError(path, "", "expected a regular file");
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  return in;
}

text::DocumentForm form_of(const fs::path& path) {
  if (text::document_form(path, "") == text::DocumentForm::kText) return text::DocumentForm::kText;
  return text::document_form(path, io::MappedFile(path).bytes());
}

/// How much of `text` makes a piece: up to the first line end from byte `piece` on. If
/// `is_end`, no more text follows; 0 where more of it has to be seen first.
size_t piece_length(std::string_view text, size_t piece, bool is_end) {
  const size_t longest = 4 * piece;
  const size_t line_end = text.size() < piece ? text.npos : text.find('\n', piece - 1);
  if (line_end < longest) return line_end + 1;
  if (text.size() < longest) return is_end ? text.size() : 0;
  const std::string_view line = text.substr(0, longest);
  if (const size_t space = line.rfind(' '); space != line.npos && space > 0) return space;
  return std::max<size_t>(text::settled_prefix(line), 1);
}

}  // namespace

DocumentFile::DocumentFile(fs::path path, const DocumentFileOptions& options)
    : path_(std::move(path)), in_(opened(path_)), form_(form_of(path_)) {
  TORCH_CHECK_VALUE(options.piece > 0, "[DocumentFile] expected pieces of 1 byte or more, got ",
                    options.piece);
  if (form_ == text::DocumentForm::kText) {
    index_pieces(options);
  } else {
    index_records(options);
  }
  if (in_.bad()) throw SystemError("cannot read", path_, EIO);
  if (size() < 1) {
    throw FormatError(path_, "text",
                      skipped_ == 0
                          ? "expected some, found none"
                          : fmt::format("expected some, found {} broken lines", skipped_));
  }
}

void DocumentFile::index_records(const DocumentFileOptions& options) {
  const io::MappedFile file(path_);
  hash_ = package::Fingerprint().add(file.bytes()).hex();
  skipped_ = text::for_each_record(
      file.bytes(), form_, path_, {options.skip_bad, options.refusal},
      [&](const text::Record& place, text::Document&&) { places_.push_back(place); });
}

void DocumentFile::index_pieces(const DocumentFileOptions& options) {
  package::Fingerprint hash;
  const auto piece = static_cast<size_t>(options.piece);
  std::string buffer;
  size_t offset = 0;
  bool is_end = false;
  while (!is_end || !buffer.empty()) {
    const size_t length = piece_length(buffer, piece, is_end);
    if (length == 0 && !is_end) {
      const size_t known = buffer.size();
      buffer.resize(known + 4 * piece);
      in_.read(buffer.data() + known, static_cast<std::streamsize>(4 * piece));
      buffer.resize(known + static_cast<size_t>(in_.gcount()));
      is_end = in_.eof() || in_.bad();
      if (offset == 0 && known == 0) {
        if (!text::wide_encoding(buffer).empty()) text::utf8_text(buffer, path_);
        if (buffer.starts_with(text::kByteOrderMark)) {
          offset = text::kByteOrderMark.size();
          buffer.erase(0, offset);
        }
      }
      continue;
    }
    if (length == 0) break;
    const std::string_view text = std::string_view(buffer).substr(0, length);
    if (const size_t valid = text::valid_utf8_prefix(text); valid < text.size()) {
      throw FormatError(
          path_, fmt::format("byte {}", offset + valid),
          fmt::format("expected UTF-8, got the byte 0x{:02X}", static_cast<uint8_t>(text[valid])));
    }
    hash.add(text);
    places_.push_back({offset, length});
    offset += length;
    buffer.erase(0, length);
  }
  hash_ = hash.hex();
}

text::Document DocumentFile::read(int64_t i) {
  TORCH_CHECK_VALUE(i >= 0 && i < size(), "[DocumentFile] expected a document of 0 .. ", size() - 1,
                    ", got ", i);
  const text::Record place = places_[static_cast<size_t>(i)];
  in_.clear();
  in_.seekg(static_cast<std::streamoff>(place.begin));
  std::string content(place.size, '\0');
  in_.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (in_.bad()) throw SystemError("cannot read", path_, EIO);
  const bool is_whole = !in_.fail() && std::cmp_equal(in_.gcount(), content.size());
  try {
    if (is_whole && form_ != text::DocumentForm::kText) {
      return text::parse_document(content, path_, "");
    }
    if (is_whole && text::is_valid_utf8(content)) return {{}, std::move(content)};
  } catch (const FormatError&) {
    // It was a document when the file was opened.
  }
  throw FormatError(path_, fmt::format("byte {}", place.begin),
                    "the file has changed since it was opened");
}

}  // namespace schmidt::heal
