#include "schmidt/serve/api.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/serve/api_error.h"
#include "schmidt/serve/chat_page.h"
#include "schmidt/serve/endpoints.h"
#include "schmidt/serve/fields.h"
#include "schmidt/serve/query.h"

namespace schmidt::serve {
namespace {

// What a request is answered with.
struct Context {
  HostedModels& models;
  const RequestLimits& limits;
  const RequestCounter& requests;
  uint64_t fallback_seed;

  Backend backend(const std::string& name) const {
    HostedModel& model = models.choose(name);
    return {model.served, model.scheduler, limits, fallback_seed};
  }
};

using Answer = void (*)(const Context&, const HttpRequest&, const std::shared_ptr<Reply>&);

// The kinds of endpoints, by what they answer for: a model that the body names, ..
template <void (*endpoint)(const Backend&, const nlohmann::json&, const std::shared_ptr<Reply>&)>
void of_body(const Context& context, const HttpRequest& request,
             const std::shared_ptr<Reply>& reply) {
  const nlohmann::json body = parse_body(request.body);
  endpoint(context.backend(Fields(body).text("model", "")), body, reply);
}
template <HttpResponse (*endpoint)(const Backend&, const nlohmann::json&)>
void of_body(const Context& context, const HttpRequest& request,
             const std::shared_ptr<Reply>& reply) {
  const nlohmann::json body = parse_body(request.body);
  reply->send(endpoint(context.backend(Fields(body).text("model", "")), body));
}
// .. one that the query names, ..
template <HttpResponse (*endpoint)(const Backend&)>
void of_query(const Context& context, const HttpRequest& request,
              const std::shared_ptr<Reply>& reply) {
  reply->send(endpoint(context.backend(query_field(request.query, "model"))));
}
// .. or all of them.
template <HttpResponse (*endpoint)(const HostedModels&)>
void of_all(const Context& context, const HttpRequest&, const std::shared_ptr<Reply>& reply) {
  reply->send(endpoint(context.models));
}
template <HttpResponse (*endpoint)(const HostedModels&, const RequestCounter&)>
void of_all(const Context& context, const HttpRequest&, const std::shared_ptr<Reply>& reply) {
  reply->send(endpoint(context.models, context.requests));
}

// The page asks for the key itself, and then with it.
void show_page(const Context&, const HttpRequest&, const std::shared_ptr<Reply>& reply) {
  reply->send(chat_page());
}

struct Route {
  const char* method;
  const char* path;
  Answer answer;
  bool open = false;  // needs no API key
};

constexpr Route kRoutes[] = {
    {"GET", "/", show_page, /*open=*/true},
    {"POST", "/v1/completions", of_body<complete>},
    {"POST", "/v1/chat/completions", of_body<chat>},
    {"GET", "/v1/models", of_all<list_models>},
    {"GET", "/health", of_all<health>, /*open=*/true},
    {"GET", "/metrics", of_all<metrics>},
    {"GET", "/tokenizer_info", of_query<tokenizer_info>},
    {"POST", "/tokenize", of_body<tokenize>},
    {"POST", "/detokenize", of_body<detokenize>},
};

// Counts what a client is told, whoever sends it.
class CountedReply : public Reply {
 public:
  CountedReply(std::shared_ptr<Reply> reply, RequestCounter& counter, std::string path)
      : reply_(std::move(reply)), counter_(counter), path_(std::move(path)) {}

  void send(HttpResponse response) override {
    counter_.count(path_, response.status);
    reply_->send(std::move(response));
  }
  void stream(std::string piece) override { reply_->stream(std::move(piece)); }
  void end_stream() override {
    counter_.count(path_, 200);
    reply_->end_stream();
  }
  void run(std::function<void()> work) override { reply_->run(std::move(work)); }
  void on_leave(std::function<void()> left) override { reply_->on_leave(std::move(left)); }

 private:
  const std::shared_ptr<Reply> reply_;
  RequestCounter& counter_;
  const std::string path_;
};

// Takes as long wherever the first difference is.
bool equal_secrets(std::string_view a, std::string_view b) {
  unsigned difference = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  }
  return difference == 0;
}

void send_error(const ApiError& error, const std::shared_ptr<Reply>& reply,
                std::vector<std::pair<std::string, std::string>> headers = {}) {
  reply->send({error.status(), error_body(error.what(), error.type(), error.code()),
               "application/json", std::move(headers)});
}

ApiError refusal(const infer::Refused& refused) {
  const bool full = refused.reason() == infer::Refused::Reason::kFull;
  return {full ? 429 : 503, full ? "rate_limit_error" : "server_error",
          full ? "queue_full" : "shutting_down",
          full ? fmt::format("the server is busy: {}; try again later", refused.what())
               : "the server ends and takes no new requests"};
}

}  // namespace

Api::Api(HostedModels& models, ApiOptions options)
    : models_(models), options_(std::move(options)) {}

bool Api::is_allowed(const HttpRequest& request) const {
  if (options_.api_key.empty()) return true;
  // A scheme in any case and one space or more (RFC 9110, 11.4).
  constexpr std::string_view kBearer = "bearer ";
  const std::string_view given = request.authorization;
  const bool bears = std::ranges::equal(
      given.substr(0, kBearer.size()), kBearer,
      [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == b; });
  if (!bears) return false;
  const size_t key = std::min(given.find_first_not_of(' ', kBearer.size()), given.size());
  return equal_secrets(given.substr(key), options_.api_key);
}

void Api::route(const HttpRequest& request, const std::shared_ptr<Reply>& reply) {
  std::vector<std::string> allowed;
  for (const Route& route : kRoutes) {
    if (request.path != route.path) continue;
    allowed.emplace_back(route.method);
    if (request.method != route.method) continue;
    if (!route.open && !is_allowed(request)) {
      throw ApiError(401, "authentication_error", "invalid_api_key",
                     "expected the server's API key as a bearer token in the header "
                     "Authorization, got another or none");
    }
    // Neighbouring seeds draw unlike each other.
    const Context context{models_, options_.limits, requests_, options_.seed + unseeded_++};
    return route.answer(context, request, reply);
  }
  if (!allowed.empty()) {
    return send_error({405, "invalid_request_error", "method_not_allowed",
                       fmt::format("expected the method {} for this path", allowed.front())},
                      reply, {{"Allow", allowed.front()}});
  }
  throw ApiError(404, "invalid_request_error", "unknown_path", "there is nothing at this path");
}

void Api::handle(const HttpRequest& request, const std::shared_ptr<Reply>& client) {
  const bool known =
      std::ranges::any_of(kRoutes, [&](const Route& route) { return request.path == route.path; });
  const auto reply =
      std::make_shared<CountedReply>(client, requests_, known ? request.path : "other");
  const auto fail = [&](const std::string& message) {
    send_error({500, "server_error", "internal_error", message}, reply);
  };
  try {
    route(request, reply);
  } catch (const ApiError& e) {
    send_error(e, reply);
  } catch (const infer::Refused& e) {
    send_error(refusal(e), reply, {{"Retry-After", "1"}});
  } catch (const c10::ValueError& e) {
    std::string message = e.what_without_backtrace();
    message.resize(std::min(message.find('\n'), message.size()));
    send_error(invalid_request(message), reply);
  } catch (const FormatError& e) {  // a text that the tokenizer's patterns do not get through
    send_error(invalid_request(e.what()), reply);
  } catch (const std::bad_alloc&) {
    fail("out of memory");
  } catch (const std::exception& e) {
    fail(std::string("this is a defect of schmidt: ") + e.what());
  }
}

}  // namespace schmidt::serve
