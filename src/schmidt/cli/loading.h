#pragma once

#include <string>
#include <vector>

#include "schmidt/cli/options.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/model/model.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::cli {

/// The model at `path` in the dtype and on the device that were asked for.
model::Model load_model(const io::Checkpoint& checkpoint, const CommonOptions& options);

/// A file's bytes. Throws SystemError if it cannot be read.
std::string read_text(const std::string& path);

/// All of standard input.
std::string read_stdin();

}  // namespace schmidt::cli
