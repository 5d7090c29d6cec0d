#include <algorithm>
#include <memory>

#include <fmt/format.h>

#include "schmidt/cli/verbs.h"
#include "schmidt/io/json.h"
#include "schmidt/pipeline/report_run.h"

namespace schmidt::cli {
namespace {

struct ReportOptions {
  std::string results, out;
  bool force = false, json = false;
};

void run(const ReportOptions& options) {
  const report::RunFacts facts = pipeline::report_run(options.results, options.out, options.force);
  const auto unfinished = std::ranges::count_if(facts.stages, [](const report::StageFacts& stage) {
    return stage.state != report::StageState::kFinished;
  });
  if (options.json) {
    const nlohmann::ordered_json out = {{"models", facts.models.size()},
                                        {"stages", facts.stages.size()},
                                        {"unfinished", unfinished},
                                        {"out", options.out}};
    fmt::print("{}\n", io::json_text(out));
    return;
  }
  fmt::print("{} models, {} stages{}, written to {}\n", facts.models.size(), facts.stages.size(),
             unfinished > 0 ? fmt::format(" ({} not finished)", unfinished) : "", options.out);
}

}  // namespace

Action add_report(CLI::App& verb) {
  auto options = std::make_shared<ReportOptions>();
  verb.add_option("RESULTS", options->results, "Folder of a run: the --out of schmidt run")
      ->type_name(kFolderValue)
      ->required();
  verb.add_option("-o,--out", options->out, "The .html file to write")
      ->type_name(kFileValue)
      ->required();
  verb.add_flag("--force", options->force, "Replace a page that schmidt wrote there");
  verb.add_flag("--json", options->json, "Print one JSON object");
  return [options] { run(*options); };
}

}  // namespace schmidt::cli
