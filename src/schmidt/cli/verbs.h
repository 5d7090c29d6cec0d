#pragma once

#include <functional>

#include "schmidt/cli/options.h"

namespace schmidt::cli {

/// Each verb adds its options to `app` and returns what runs when it is called.
/// Options live as long as the returned function.
using Run = std::function<void()>;

Run add_inspect(CLI::App& verb);
Run add_eval(CLI::App& verb);
Run add_compress(CLI::App& verb);
Run add_profile(CLI::App& verb);
Run add_plan(CLI::App& verb);
Run add_heal(CLI::App& verb);
Run add_generate(CLI::App& verb);
Run add_chat(CLI::App& verb);
Run add_tokenize(CLI::App& verb);
Run add_detokenize(CLI::App& verb);
Run add_bench(CLI::App& verb);

}  // namespace schmidt::cli
