#pragma once

#include <string>

#include "schmidt/io/checkpoint.h"
#include "schmidt/package/summary.h"

namespace schmidt::package {

/// What a model is called where it is written: what its config says it was made from, else the name
/// of its folder or file. Any bytes come escaped.
std::string model_name(const io::Checkpoint& original);

/// The README.md of a compressed checkpoint: Hugging Face front matter with
/// `base_model`, the honest ratios, and a table of the compressed layers.
std::string model_card(const io::Checkpoint& original, const ModelSummary& summary);

/// The same of a model in which nothing is compressed.
std::string plain_card(const io::Checkpoint& original, const ModelSummary& summary);

}  // namespace schmidt::package
