#pragma once

#include <functional>
#include <utility>

#include <nlohmann/json.hpp>

#include "schmidt/base/progress.h"
#include "schmidt/cli/options.h"

namespace schmidt::cli {

/// A program that calls a verb as a function: who is told of the work and may end it.
struct Caller {
  Reporter reporter;
  std::function<bool()> interrupted;  ///< true: work that saves its state does so and ends
};

/// What a verb does with its options once they are parsed. Throws as the library.
class Action {
 public:
  template <typename Run>
  Action(Run run) : run_(std::move(run)) {}  // NOLINT(google-explicit-constructor)
  /// `check` finds mistakes about options that are known before a model is opened.
  /// `call` does the same as `run`, prints nothing and gives what --json prints.
  Action(std::function<void()> check, std::function<void()> run,
         std::function<nlohmann::ordered_json(const Caller&)> call = {})
      : check_(std::move(check)), run_(std::move(run)), call_(std::move(call)) {}

  void check() const {
    if (check_) check_();
  }
  void operator()() const {
    check();
    run_();
  }

  /// Only of verbs in the table of call_verb.cpp. Throws Interrupted for work that the caller ends.
  nlohmann::ordered_json call(const Caller& caller) const {
    check();
    return call_(caller);
  }

 private:
  std::function<void()> check_, run_;
  std::function<nlohmann::ordered_json(const Caller&)> call_;
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
