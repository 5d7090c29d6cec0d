#include "schmidt/text/sentencepiece_pieces.h"

#include <cstring>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

/// A message of protocol buffers, field by field.
class Fields {
 public:
  Fields(std::string_view bytes, const std::filesystem::path& path) : bytes_(bytes), path_(path) {}

  uint64_t number = 0;       ///< of the field that was read
  uint64_t value = 0;        ///< a varint's
  std::string_view content;  ///< of a string, a message or a fixed number

  /// Reads the next field; false at the end.
  bool next() {
    if (bytes_.empty()) return false;
    const uint64_t key = varint();
    number = key >> 3;
    switch (key & 7) {
      case 0:
        value = varint();
        break;
      case 1:
        content = take(8);
        break;
      case 2:
        content = take(varint());
        break;
      case 5:
        content = take(4);
        break;
      default:
        fail();
    }
    return true;
  }

  Fields message() const { return {content, path_}; }

  float number32() const {
    if (content.size() != sizeof(float)) fail();
    float result;
    std::memcpy(&result, content.data(), sizeof result);
    return result;
  }

 private:
  [[noreturn]] void fail() const {
    throw FormatError(path_, "", "expected a SentencePiece model, found a broken field");
  }

  std::string_view take(uint64_t count) {
    if (count > bytes_.size()) fail();
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }

  uint64_t varint() {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1).front());
      result |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return result;
    }
    fail();
  }

  std::string_view bytes_;
  const std::filesystem::path& path_;
};

constexpr uint64_t kBpe = 2;  // TrainerSpec.ModelType

}  // namespace

SentencePieceFile read_sentencepiece_file(std::string_view bytes,
                                          const std::filesystem::path& path) {
  SentencePieceFile file;
  for (Fields model(bytes, path); model.next();) {
    Fields part = model.message();
    if (model.number == 1) {
      SentencePiecePiece& piece = file.pieces.emplace_back();
      while (part.next()) {
        if (part.number == 1) piece.text = part.content;
        if (part.number == 2) piece.score = part.number32();
        if (part.number == 3) piece.type = static_cast<int64_t>(part.value);
      }
    } else if (model.number == 2) {
      while (part.next()) {
        if (part.number == 3) file.is_bpe = part.value == kBpe;
      }
    } else if (model.number == 3) {
      while (part.next()) {
        if (part.number == 3) file.add_dummy_prefix = part.value != 0;
      }
    }
  }
  return file;
}

}  // namespace schmidt::text
