#include "schmidt/text/sentencepiece_model.h"

#include <sentencepiece_processor.h>

#include "schmidt/base/format_error.h"

namespace schmidt::text {
namespace {

// ModelProto field 3 (normalizer_spec), 2 bytes long: its field 3, add_dummy_prefix =
// false. Protocol buffers merge what is appended into what stands before.
constexpr std::string_view kWithoutDummyPrefix("\x1a\x02\x18\x00", 4);

void load(sentencepiece::SentencePieceProcessor& processor, std::string_view bytes,
          const std::filesystem::path& path) {
  const sentencepiece::util::Status status = processor.LoadFromSerializedProto(bytes);
  if (!status.ok()) {
    throw FormatError(path, "", std::string("expected a SentencePiece model: ") + status.message());
  }
}

}  // namespace

struct SentencePieceModel::Processors {
  sentencepiece::SentencePieceProcessor at_start;
  sentencepiece::SentencePieceProcessor within;
};

SentencePieceModel::SentencePieceModel(std::string_view bytes, const std::filesystem::path& path)
    : processors_(std::make_unique<Processors>()) {
  if (bytes.empty()) throw FormatError(path, "", "expected a SentencePiece model, got nothing");
  load(processors_->at_start, bytes, path);
  load(processors_->within, std::string(bytes) += kWithoutDummyPrefix, path);
}

SentencePieceModel::~SentencePieceModel() = default;
SentencePieceModel::SentencePieceModel(SentencePieceModel&&) noexcept = default;
SentencePieceModel& SentencePieceModel::operator=(SentencePieceModel&&) noexcept = default;

void SentencePieceModel::encode(std::string_view text, bool at_start,
                                std::vector<int64_t>& ids) const {
  const auto& processor = at_start ? processors_->at_start : processors_->within;
  for (const int id : processor.EncodeAsIds(text)) ids.push_back(id);
}

std::vector<std::string> SentencePieceModel::pieces() const {
  std::vector<std::string> pieces;
  pieces.reserve(processors_->at_start.GetPieceSize());
  for (int id = 0; id < processors_->at_start.GetPieceSize(); ++id) {
    pieces.push_back(processors_->at_start.IdToPiece(id));
  }
  return pieces;
}

std::vector<AddedToken> SentencePieceModel::special_tokens() const {
  std::vector<AddedToken> tokens;
  const auto& processor = processors_->at_start;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id) && !processor.IsUnknown(id)) continue;
    tokens.push_back({.id = id, .content = processor.IdToPiece(id), .special = true});
  }
  return tokens;
}

int64_t SentencePieceModel::bos_id() const { return processors_->at_start.bos_id(); }
int64_t SentencePieceModel::eos_id() const { return processors_->at_start.eos_id(); }

}  // namespace schmidt::text
