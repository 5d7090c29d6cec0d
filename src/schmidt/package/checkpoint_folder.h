#pragma once

#include "schmidt/base/atomic_file.h"

namespace schmidt::package {

/// The folder of a checkpoint that schmidt wrote: its config.json has a compression_config that
/// says how it was made, and nothing lies in it but what a checkpoint and the log of its healing
/// consist of.
FolderKind checkpoint_folder();

}  // namespace schmidt::package
