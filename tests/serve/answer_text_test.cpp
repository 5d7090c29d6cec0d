#include <gtest/gtest.h>

#include "schmidt/serve/choice.h"

namespace schmidt::serve {
namespace {

// A tokenizer of the SentencePiece kind: "\u2581" stands for a space, and the one before a text's
// first token is not shown.
text::Tokenizer metaspace_tokenizer() {
  return text::Tokenizer::from_json(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>",
      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
      "byte_fallback": false, "ignore_merges": false,
      "vocab": {"<unk>": 0, "\u2581": 1, "a": 2, "b": 3, "\u2581a": 4, "\u2581b": 5},
      "merges": ["\u2581 a", "\u2581 b"]}})");
}

TEST(Choice, AnAnswerWithinATextKeepsItsFirstSpace) {
  const text::Tokenizer tokenizer = metaspace_tokenizer();
  for (const bool continues : {true, false}) {
    Choice choice(tokenizer, {}, 3, "", continues);
    choice.push({.id = 5});
    choice.push({.id = 4});
    choice.end({});
    const Piece piece = choice.take();
    EXPECT_EQ(piece.text, continues ? " b a" : "b a");
    EXPECT_EQ(piece.index, 3);
    EXPECT_EQ(piece.finish_reason, "length");
  }
}

TEST(Choice, TheLongestTokenBoundsATextsBytes) {
  EXPECT_EQ(longest_token(metaspace_tokenizer()), 5);  // "<unk>"
}

}  // namespace
}  // namespace schmidt::serve
