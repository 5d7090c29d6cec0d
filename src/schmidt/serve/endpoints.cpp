#include "schmidt/serve/endpoints.h"

#include <fmt/format.h>

#include "schmidt/io/json.h"
#include "schmidt/serve/api_error.h"
#include "schmidt/serve/fields.h"
#include "schmidt/serve/openai_json.h"

namespace schmidt::serve {
namespace {

HttpResponse json_response(const OrderedJson& value) { return {200, io::json_text(value)}; }

OrderedJson token_or_null(const text::Tokenizer& tokenizer, std::optional<int64_t> id) {
  return id ? OrderedJson(tokenizer.id_to_token(*id)) : OrderedJson(nullptr);
}

}  // namespace

HttpResponse list_models(const HostedModels& models) {
  OrderedJson data = OrderedJson::array();
  for (const HostedModel& model : models.all()) {
    data.push_back({{"id", model.served.name},
                    {"object", "model"},
                    {"created", model.served.created},
                    {"owned_by", "schmidt"},
                    {"max_model_len", model.served.context},
                    {"meta", model.served.facts}});
  }
  return json_response({{"object", "list"}, {"data", std::move(data)}});
}

HttpResponse health(const HostedModels& models) {
  int64_t slots = 0, running = 0, waiting = 0;
  for (const HostedModel& model : models.all()) {
    const infer::SchedulerStats stats = model.scheduler.stats();
    slots += stats.slots;
    running += stats.running;
    waiting += stats.waiting;
  }
  return json_response(
      {{"status", "ok"}, {"slots", slots}, {"running", running}, {"waiting", waiting}});
}

HttpResponse metrics(const HostedModels& models, const RequestCounter& requests) {
  return {200, metrics_text(models, requests), "text/plain; version=0.0.4; charset=utf-8"};
}

HttpResponse tokenizer_info(const Backend& backend) {
  const text::Tokenizer& tokenizer = backend.model.tokenizer;
  const std::string& chat_template = tokenizer.chat_template();
  return json_response({{"bos_token", token_or_null(tokenizer, tokenizer.bos_id())},
                        {"eos_token", token_or_null(tokenizer, tokenizer.eos_id())},
                        {"pad_token", nullptr},
                        {"vocab_size", tokenizer.vocab_size()},
                        {"model_max_length", backend.model.context},
                        {"chat_template", chat_template.empty() ? OrderedJson(nullptr)
                                                                : OrderedJson(chat_template)}});
}

HttpResponse tokenize(const Backend& backend, const nlohmann::json& body) {
  const Fields fields(body);
  const text::Tokenizer& tokenizer = backend.model.tokenizer;
  std::vector<int64_t> ids;
  if (const nlohmann::json* messages = fields.find("messages")) {
    ids = encode_text(
        backend.model,
        text::format_chat(tokenizer, backend.model.model_type, parse_messages(*messages),
                          fields.flag("add_generation_prompt", true)),
        {.add_special = fields.flag("add_special_tokens", false)}, "messages");
  } else {
    fields.at("prompt");
    ids = encode_text(backend.model, fields.text("prompt", ""),
                      {.add_special = fields.flag("add_special_tokens", true)}, "prompt");
  }
  return json_response(
      {{"count", ids.size()}, {"max_model_len", backend.model.context}, {"tokens", ids}});
}

HttpResponse detokenize(const Backend& backend, const nlohmann::json& body) {
  const std::vector<int64_t> ids =
      token_ids(Fields(body).at("tokens"), backend.model.vocab_size, "tokens");
  return json_response({{"prompt", text_of(backend.model.tokenizer, ids)}});
}

}  // namespace schmidt::serve
