#pragma once

#include <functional>
#include <string_view>

namespace schmidt::text {

/// The chat template of a model that brings none: by `model_type` of config.json and the
/// tokens that its vocabulary has; empty where none is known.
std::string_view chat_template_of_model(std::string_view model_type,
                                        const std::function<bool(std::string_view)>& has_token);

}  // namespace schmidt::text
