#pragma once

#include <functional>

#include "schmidt/cli/options.h"

namespace schmidt::cli {

/// Each verb adds its options to `app` and returns what runs when it is called.
/// Options live as long as the returned function.
using Action = std::function<void()>;

Action add_inspect(CLI::App& verb);
Action add_eval(CLI::App& verb);
Action add_compress(CLI::App& verb);
Action add_quantize(CLI::App& verb);
Action add_profile(CLI::App& verb);
Action add_plan(CLI::App& verb);
Action add_heal(CLI::App& verb);
Action add_export(CLI::App& verb);
Action add_generate(CLI::App& verb);
Action add_chat(CLI::App& verb);
Action add_tokenize(CLI::App& verb);
Action add_detokenize(CLI::App& verb);
Action add_serve(CLI::App& verb);
Action add_bench(CLI::App& verb);
Action add_doctor(CLI::App& verb);
Action add_completion(CLI::App& verb);  ///< and the next: of all verbs that stand beside it
Action add_man(CLI::App& verb);

}  // namespace schmidt::cli
