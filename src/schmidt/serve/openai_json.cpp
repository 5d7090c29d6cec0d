#include "schmidt/serve/openai_json.h"

namespace schmidt::serve {
namespace {

OrderedJson finish_reason(const Piece& piece) {
  return piece.finish_reason ? OrderedJson(*piece.finish_reason) : OrderedJson(nullptr);
}

// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: an entry for each token, null where
// the model says nothing of it.
OrderedJson completion_logprobs(const ServedModel& model, const std::vector<LoggedToken>& tokens) {
  OrderedJson texts = OrderedJson::array(), log_p = OrderedJson::array(),
              top = OrderedJson::array(), offsets = OrderedJson::array();
  const TokenTexts spelled(model.tokenizer);
  for (const LoggedToken& token : tokens) {
    const std::string text = spelled.of(token.id);
    texts.push_back(text);
    offsets.push_back(token.offset);
    if (!token.score) {
      log_p.push_back(nullptr);
      top.push_back(nullptr);
      continue;
    }
    log_p.push_back(token.score->log_p);
    // Of tokens that read alike the likeliest is listed. The token itself is always there.
    OrderedJson likeliest = OrderedJson::object();
    for (const infer::LikelyToken& other : token.score->likeliest) {
      const std::string name = other.id == token.id ? text : spelled.of(other.id);
      if (!likeliest.contains(name)) likeliest[name] = other.log_p;
    }
    if (!likeliest.contains(text)) likeliest[text] = token.score->log_p;
    top.push_back(std::move(likeliest));
  }
  return {{"tokens", std::move(texts)},
          {"token_logprobs", std::move(log_p)},
          {"top_logprobs", std::move(top)},
          {"text_offset", std::move(offsets)}};
}

OrderedJson chat_token(const TokenTexts& texts, int64_t id, float log_p) {
  const std::string text = texts.of(id);
  OrderedJson bytes = nullptr;
  if (text.find("\xEF\xBF\xBD") == std::string::npos) {  // else they are not known
    bytes = OrderedJson::array();
    for (const unsigned char byte : text) bytes.push_back(static_cast<int>(byte));
  }
  return {{"token", text}, {"logprob", log_p}, {"bytes", std::move(bytes)}};
}

OrderedJson chat_logprobs(const ServedModel& model, const std::vector<LoggedToken>& tokens) {
  const TokenTexts texts(model.tokenizer);
  OrderedJson content = OrderedJson::array();
  for (const LoggedToken& token : tokens) {
    OrderedJson entry = chat_token(texts, token.id, token.score->log_p);
    entry["top_logprobs"] = OrderedJson::array();
    for (const infer::LikelyToken& other : token.score->likeliest) {
      entry["top_logprobs"].push_back(chat_token(texts, other.id, other.log_p));
    }
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

OrderedJson completion_choice(const ServedModel& model, const Piece& piece, bool logprobs) {
  return {{"text", piece.text},
          {"index", piece.index},
          {"logprobs", logprobs ? completion_logprobs(model, piece.tokens) : nullptr},
          {"finish_reason", finish_reason(piece)}};
}

OrderedJson completion_chunk(const ServedModel& model, const Piece& piece, bool logprobs,
                             bool /*first*/) {
  return completion_choice(model, piece, logprobs);
}

OrderedJson chat_choice(const ServedModel& model, const Piece& all, bool logprobs) {
  return {{"index", all.index},
          {"message", {{"role", "assistant"}, {"content", all.text}, {"refusal", nullptr}}},
          {"logprobs", logprobs ? chat_logprobs(model, all.tokens) : nullptr},
          {"finish_reason", finish_reason(all)}};
}

OrderedJson chat_chunk(const ServedModel& model, const Piece& piece, bool logprobs, bool first) {
  OrderedJson delta = OrderedJson::object();
  if (first) delta["role"] = "assistant";
  if (first || !piece.text.empty()) delta["content"] = piece.text;
  return {{"index", piece.index},
          {"delta", std::move(delta)},
          {"logprobs",
           logprobs && !piece.tokens.empty() ? chat_logprobs(model, piece.tokens) : nullptr},
          {"finish_reason", finish_reason(piece)}};
}

}  // namespace

const AnswerFormat kCompletionFormat = {"cmpl-", "text_completion", "text_completion",
                                        false,   completion_choice, completion_chunk};
const AnswerFormat kChatFormat = {"chatcmpl-", "chat.completion", "chat.completion.chunk",
                                  true,        chat_choice,       chat_chunk};

OrderedJson to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

}  // namespace schmidt::serve
