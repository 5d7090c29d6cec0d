#include "schmidt/serve/chat_page.h"

#include <string_view>

namespace schmidt::embedded {
extern const std::string_view chat_page;  // chat_page.html, at build time
}  // namespace schmidt::embedded

namespace schmidt::serve {

HttpResponse chat_page() {
  return {200,
          std::string(embedded::chat_page),
          "text/html; charset=utf-8",
          {{"Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
            "connect-src 'self'"},
           {"X-Content-Type-Options", "nosniff"}}};
}

}  // namespace schmidt::serve
