#include "schmidt/text/tokenizer.h"

#include <algorithm>

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/json.h"
#include "schmidt/text/tokenizer_impl.h"
#include "schmidt/text/utf8.h"

namespace schmidt::text {

int64_t Tokenizer::Impl::size() const { return std::max(vocabulary.size(), added->size()); }

const std::string* Tokenizer::Impl::token(int64_t id) const {
  const std::string* found = added->token(id);
  return found != nullptr ? found : vocabulary.token(id);
}

std::optional<int64_t> Tokenizer::Impl::id(std::string_view token) const {
  const std::optional<int64_t> found = vocabulary.id(token);
  return found ? found : added->id(token);
}

Tokenizer Tokenizer::from_json(std::string_view tokenizer_json, const std::filesystem::path& path) {
  const std::shared_ptr<Impl> impl = build_from_json(io::parse_json(tokenizer_json, path), path);
  impl->files["tokenizer.json"] = tokenizer_json;
  impl->files["tokenizer_config.json"] = R"({"tokenizer_class": "PreTrainedTokenizerFast"})";
  return Tokenizer(impl);
}

std::vector<int64_t> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  const std::string valid = to_valid_utf8(text);
  std::vector<int64_t> ids;
  if (options.add_special) ids = impl_->frame.before;
  Bpe::Cache cache;
  for (AddedTokens::Segment& segment : impl_->added->split(valid, options.parse_special)) {
    if (segment.id) {
      ids.push_back(*segment.id);
    } else if (impl_->sentencepiece) {
      impl_->sentencepiece->encode(segment.text, segment.at_start, ids);
    } else {
      std::vector<Piece> pieces{{std::move(segment.text), segment.at_start}};
      if (impl_->pre_tokenizer) pieces = impl_->pre_tokenizer(std::move(pieces));
      for (const Piece& piece : pieces) impl_->bpe->encode(piece.text, cache, ids);
    }
  }
  if (options.add_special) {
    ids.insert(ids.end(), impl_->frame.after.begin(), impl_->frame.after.end());
  }
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  StreamDecoder decoder(*this, skip_special);
  std::string text;
  for (const int64_t id : ids) text += decoder.push(id);
  return text + decoder.flush();
}

int64_t Tokenizer::vocab_size() const { return impl_->size(); }

std::optional<int64_t> Tokenizer::token_to_id(std::string_view token) const {
  return impl_->id(token);
}

std::string Tokenizer::id_to_token(int64_t id) const {
  const std::string* token = impl_->token(id);
  TORCH_CHECK_VALUE(token != nullptr, "[Tokenizer] expected the id of a token (0 .. ",
                    vocab_size() - 1, "), got ", id);
  return *token;
}

std::vector<int64_t> Tokenizer::ids_without_token(int64_t vocab_size) const {
  std::vector<int64_t> ids;
  for (int64_t id = 0; id < vocab_size; ++id) {
    if (impl_->token(id) == nullptr) ids.push_back(id);
  }
  return ids;
}

bool Tokenizer::is_special(int64_t id) const { return impl_->added->is_special(id); }
std::optional<int64_t> Tokenizer::bos_id() const { return impl_->bos_id; }
std::optional<int64_t> Tokenizer::eos_id() const { return impl_->eos_id; }
bool Tokenizer::names_bos() const { return impl_->names_bos; }
bool Tokenizer::names_eos() const { return impl_->names_eos; }
const std::vector<int64_t>& Tokenizer::stop_ids() const { return impl_->stop_ids; }
const std::vector<std::string>& Tokenizer::notes() const { return impl_->notes; }
const std::string& Tokenizer::chat_template() const { return impl_->chat_template; }

void Tokenizer::save(const std::filesystem::path& folder) const {
  for (const auto& [name, content] : impl_->files) write_file_atomically(folder / name, content);
}

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      decoding_(std::make_unique<Decoding>(tokenizer_.impl_->decoder)) {}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(int64_t id) {
  const Tokenizer::Impl& impl = *tokenizer_.impl_;
  const std::string* token = impl.token(id);
  if (token == nullptr) {
    const int64_t end = std::max(impl.size(), impl.model_vocab_size);
    TORCH_CHECK_VALUE(id >= 0 && id < end, "[Tokenizer] expected an id of the vocabulary (0 .. ",
                      end - 1, "), got ", id);
    return {};
  }
  if (skip_special_ && tokenizer_.is_special(id)) return {};
  return decoding_->push(*token);
}

std::string StreamDecoder::flush() {
  std::string rest = decoding_->flush();
  decoding_ = std::make_unique<Decoding>(tokenizer_.impl_->decoder);
  return rest;
}

std::optional<int64_t> first_difference(const Tokenizer& a, const Tokenizer& b,
                                        int64_t vocab_size) {
  const std::vector<int64_t> without_a = a.ids_without_token(vocab_size),
                             without_b = b.ids_without_token(vocab_size);
  for (int64_t id = 0; id < vocab_size; ++id) {
    const bool in_a = !std::ranges::binary_search(without_a, id);
    const bool in_b = !std::ranges::binary_search(without_b, id);
    if (in_a != in_b || (in_a && a.id_to_token(id) != b.id_to_token(id))) return id;
  }
  return std::nullopt;
}

}  // namespace schmidt::text
