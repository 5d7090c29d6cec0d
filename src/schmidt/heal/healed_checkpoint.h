#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "schmidt/heal/trained_tensors.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/package/summary.h"

namespace schmidt::heal {

/// Writes `checkpoint` into `folder` with trained tensors in place of its own, each in
/// the dtype that it is stored in, a layer at a time in memory. Compressed weights come under
/// the names of what LoadOptions::free_gauge reads and are packed as their form says; networks
/// that were stored without the freedom of their bonds lose it again, which changes no matrix
/// but may make a bond smaller. `made_by` is added to the
/// recipe in compression_config.
/// Throws c10::ValueError if a trained tensor holds NaN or infinity, or not all of a
/// weight is there; SystemError from the disk.
package::ModelSummary write_healed(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                                   const nlohmann::json& made_by,
                                   const std::filesystem::path& folder);

}  // namespace schmidt::heal
