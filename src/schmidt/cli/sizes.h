#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/package/summary.h"

namespace schmidt::cli {

/// What every command that changes a model reports: parameters kept of the whole
/// model and of the tensorized layers, bytes against float32 and float16.
std::string sizes_text(const package::ModelSummary& summary);
nlohmann::ordered_json sizes_json(const package::ModelSummary& summary);

}  // namespace schmidt::cli
