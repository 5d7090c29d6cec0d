#pragma once

#include <nlohmann/json.hpp>

#include "schmidt/cli/command_line.h"

namespace schmidt::cli {

/// What a recipe of `schmidt run` may hold, as JSON Schema of draft 2020-12, made of the options of
/// the verbs. docs/recipe.schema.json is a copy.
nlohmann::ordered_json recipe_schema(const CommandForm& program);

}  // namespace schmidt::cli
