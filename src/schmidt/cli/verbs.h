#pragma once

#include <functional>
#include <utility>

#include "schmidt/cli/options.h"

namespace schmidt::cli {

/// What a verb does with its options once they are parsed. Throws as the library.
class Action {
 public:
  template <typename Run>
  Action(Run run) : run_(std::move(run)) {}  // NOLINT(google-explicit-constructor)
  /// `check` finds mistakes about options that are known before a model is opened.
  Action(std::function<void()> check, std::function<void()> run)
      : check_(std::move(check)), run_(std::move(run)) {}

  void check() const {
    if (check_) check_();
  }
  void operator()() const {
    check();
    run_();
  }

 private:
  std::function<void()> check_, run_;
};

/// Each verb adds its options to `app` and returns what runs when it is called.
/// Options live as long as that.

Action add_inspect(CLI::App& verb);
Action add_eval(CLI::App& verb);
Action add_compress(CLI::App& verb);
Action add_quantize(CLI::App& verb);
Action add_profile(CLI::App& verb);
Action add_plan(CLI::App& verb);
Action add_heal(CLI::App& verb);
Action add_export(CLI::App& verb);
Action add_generate(CLI::App& verb);
Action add_sample(CLI::App& verb);
Action add_chat(CLI::App& verb);
Action add_tokenize(CLI::App& verb);
Action add_detokenize(CLI::App& verb);
Action add_serve(CLI::App& verb);
Action add_bench(CLI::App& verb);
Action add_doctor(CLI::App& verb);
Action add_report(CLI::App& verb);
Action add_run(CLI::App& verb);  ///< and the next two: of all verbs that stand beside it
Action add_completion(CLI::App& verb);
Action add_man(CLI::App& verb);

}  // namespace schmidt::cli
