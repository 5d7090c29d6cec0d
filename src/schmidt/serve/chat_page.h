#pragma once

#include "schmidt/serve/http.h"

namespace schmidt::serve {

/// GET /: a page to talk with the model, which shows its sizes and its speed. One file that loads
/// nothing from elsewhere.
HttpResponse chat_page();

}  // namespace schmidt::serve
