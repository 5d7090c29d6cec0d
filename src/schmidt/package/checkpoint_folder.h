#pragma once

#include <map>
#include <string>

#include "schmidt/base/atomic_file.h"

namespace schmidt::package {

/// What the weights of an exported model say in their headers, whose config.json need not say who
/// wrote it.
extern const std::map<std::string, std::string> kExportMetadata;

/// The folder of a checkpoint that schmidt wrote: its config.json has a compression_config that
/// says how it was made, or its weights have kExportMetadata, and nothing lies in it but what a
/// checkpoint and the log of its healing consist of.
FolderKind checkpoint_folder();

/// The same of an export, which is written in one go: work that a run could go on from does not
/// belong in its folder of unfinished work.
FolderKind export_folder();

}  // namespace schmidt::package
