#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/serve/choice.h"
#include "schmidt/serve/served_model.h"

namespace schmidt::serve {

using OrderedJson = nlohmann::ordered_json;

/// How an endpoint words answers: a choice of the whole answer, and one of a chunk of a stream.
struct AnswerFormat {
  const char* id_prefix;
  const char* object;        ///< of the whole answer
  const char* chunk_object;  ///< of a chunk
  bool opens;                ///< a stream's first chunk names the role
  OrderedJson (*choice)(const ServedModel& model, const Piece& all, bool logprobs);
  OrderedJson (*chunk)(const ServedModel& model, const Piece& piece, bool logprobs, bool first);
};

extern const AnswerFormat kCompletionFormat;  ///< /v1/completions
extern const AnswerFormat kChatFormat;        ///< /v1/chat/completions

struct Usage {
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
};
OrderedJson to_json(const Usage& usage);

}  // namespace schmidt::serve
