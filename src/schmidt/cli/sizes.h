#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "schmidt/package/summary.h"

namespace schmidt::cli {

/// What every command that changes a model reports: parameters kept of the whole
/// model and of the tensorized layers, bytes against float32 and float16.
std::string sizes_text(const package::ModelSummary& summary);
nlohmann::ordered_json sizes_json(const package::ModelSummary& summary);

/// All bytes of the weights over the original's parameters, in bits; and as a line.
double bits_per_weight(const package::ModelSummary& summary);
std::string bits_text(const package::ModelSummary& summary);

/// Bytes in words: "120MB", "1.5GB", "64MiB", "1000000". Throws c10::ValueError.
double parse_size(const std::string& text);

/// A number of tokens: 200000, "200k", "1.5M". Throws c10::ValueError.
int64_t parse_token_count(const std::string& text);

}  // namespace schmidt::cli
