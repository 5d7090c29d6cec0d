#pragma once

#include <filesystem>

#include <nlohmann/json.hpp>

#include "schmidt/heal/trained_tensors.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/package/summary.h"

namespace schmidt::heal {

/// Writes `checkpoint` into `folder` with trained tensors in place of its own, each in
/// the dtype that it is stored in, a network at a time in memory. Networks come in their
/// full gauge, as LoadOptions::free_gauge reads them; those stored without it lose it
/// again, which changes no matrix but may make a bond smaller. `made_by` is added to the
/// recipe in compression_config.
/// Throws c10::ValueError if a trained tensor holds NaN or infinity, or not all cores
/// of a network are there; SystemError from the disk.
package::ModelSummary write_healed(const io::Checkpoint& checkpoint, const TrainedTensors& trained,
                                   const nlohmann::json& made_by,
                                   const std::filesystem::path& folder);

}  // namespace schmidt::heal
