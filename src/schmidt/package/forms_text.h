#pragma once

#include <string>

#include "schmidt/package/summary.h"

namespace schmidt::package {

/// The form of a module's weight in few words, without its sizes: "int4", "int3 + rank in int8",
/// "rank in BF16", "MPO in BF16", "NF4"; of one that is not compressed its number format, "BF16".
std::string form_text(const ModuleSummary& module);

/// How a model was compressed: its forms with their shares of the original's parameters, the
/// largest first, "int4 60.1 %, int5 38.0 %, BF16 1.9 %". Shares below 0.05 % are left out.
std::string forms_text(const ModelSummary& summary);

}  // namespace schmidt::package
