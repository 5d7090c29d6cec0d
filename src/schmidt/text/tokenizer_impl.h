#pragma once

#include <map>

#include "schmidt/text/added_tokens.h"
#include "schmidt/text/bpe.h"
#include "schmidt/text/decoder.h"
#include "schmidt/text/post_processor.h"
#include "schmidt/text/pre_tokenizer.h"
#include "schmidt/text/sentencepiece_model.h"
#include "schmidt/text/tokenizer.h"

/// What a Tokenizer is made of, and the steps that make one. For this folder only.
namespace schmidt::text {

struct Tokenizer::Impl {
  Vocabulary vocabulary;   ///< the model's own; immovable once `bpe` is there
  std::optional<Bpe> bpe;  // one of these two
  std::optional<SentencePieceModel> sentencepiece;  // is set
  std::optional<AddedTokens> added;
  PreTokenizer pre_tokenizer;  ///< may be empty
  DecoderFactory decoder;
  SpecialFrame frame;

  std::optional<int64_t> bos_id, eos_id;
  bool names_bos = true, names_eos = true;  ///< see Tokenizer::names_bos
  std::vector<int64_t> stop_ids;
  std::string chat_template;
  std::map<std::string, std::string> files;  ///< name -> content, what `save` writes
  std::vector<std::string> notes;
  int64_t model_vocab_size = 0;  ///< rows of the model's embedding; 0: no model is known

  int64_t size() const;
  const std::string* token(int64_t id) const;  ///< nullptr for none
  std::optional<int64_t> id(std::string_view token) const;
};

/// Of a folder or a .gguf file; throws as Tokenizer::load.
std::shared_ptr<Tokenizer::Impl> load_tokenizer(const std::filesystem::path& name);

/// From tokenizer.json. Throws FormatError.
std::shared_ptr<Tokenizer::Impl> build_from_json(const nlohmann::json& tokenizer,
                                                 const std::filesystem::path& path);

/// From tokenizer.model and the added tokens of tokenizer_config.json. Throws FormatError.
std::shared_ptr<Tokenizer::Impl> build_from_sentencepiece(std::string_view bytes,
                                                          const std::vector<AddedToken>& added,
                                                          const std::filesystem::path& path);

/// The text of a token that a file of configuration names by its role: a string, or an object as
/// transformers writes an AddedToken; none where it does not. Throws FormatError.
std::optional<std::string> token_text(const JsonView& config, const std::string& role);

/// Makes the added tokens part of the tokenizer, after checking their ids.
void set_added_tokens(Tokenizer::Impl& impl, std::vector<AddedToken> tokens,
                      const Normalizer& normalizer, const JsonView& place);

/// Takes chat template, BOS, EOS and what is added from a tokenizer_config.json.
void apply_tokenizer_config(Tokenizer::Impl& impl, const JsonView& config);

/// Takes the size of the model's vocabulary from a config.json.
void apply_model_config(Tokenizer::Impl& impl, const JsonView& config);

/// Takes BOS, EOS and stop ids from a generation_config.json or config.json, where
/// they are not known yet.
void apply_generation_config(Tokenizer::Impl& impl, const JsonView& config);

}  // namespace schmidt::text
