#include "schmidt/cli/calibration_options.h"

#include "schmidt/cli/options.h"

namespace schmidt::cli {

void add_calibration_options(CLI::App& verb, pipeline::CalibrationText& text) {
  verb.add_option("--calibration", text.files,
                  "Text, .jsonl and .json files in equal parts; \"self\": sampled from the model")
      ->type_name(kFileValue)
      ->delimiter(',')
      ->capture_default_str();
  verb.add_option("--calibration-tokens", text.tokens, "Tokens of the calibration text to use")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_option("--calibration-context", text.context,
                  "Tokens in a window of the calibration text")
      ->check(kPositive)
      ->capture_default_str();
  verb.add_flag("--skip-bad", text.skip_bad, "Leave out broken lines of .jsonl and .json files");
}

}  // namespace schmidt::cli
