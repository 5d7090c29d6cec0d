#pragma once

#include "schmidt/model/model.h"
#include "schmidt/serve/served_model.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::test {

/// The tiny model, in whose 264 ids the byte tokenizer's 259 leave five without a token. Another
/// seed makes other weights.
inline model::Model load_tiny_model(uint64_t seed = 1) {
  const TinyModel tiny = make_tiny_model(2, seed);
  return model::Model::load(tiny.config, model::Weights(tiny.tensors, "tiny"));
}

/// It behind a name, with the byte tokenizer: ids 0 .. 2 are special, byte b is id b + 3.
inline serve::ServedModel tiny_served_model(const std::string& name = "tiny") {
  const TemporaryFolder folder;
  write_byte_tokenizer(folder.path());
  serve::ServedModel served{.name = name,
                            .aliases = {"models/" + name},
                            .tokenizer = text::Tokenizer::load(folder.path())};
  served.model_type = "llama";
  served.vocab_size = 264;
  served.context = 128;
  served.longest_token = serve::longest_token(served.tokenizer);
  return served;
}

}  // namespace schmidt::test
