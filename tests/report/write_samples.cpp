// Writes pages and figures of every kind, with long names and broken, far-off or missing values,
// for figures_in_browser.py.
// usage: write_report_samples FOLDER

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "schmidt/report/healing_page.h"
#include "schmidt/report/run_page.h"
#include "schmidt/report/sensitivity_figure.h"

#include "tests/profile/made_profile.h"
#include "tests/report/made_log.h"
#include "tests/report/made_run.h"

namespace {

using namespace schmidt;

const std::string kLongName = "/a/folder/with-a-long-name/SmolLM2-135M-Instruct_keep0.7_bfloat16";

void write(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
}

void write_profile(const std::filesystem::path& folder, const std::string& name,
                   const profile::Profile& profile) {
  write(folder / (name + ".svg"), report::sensitivity_svg(profile));
  write(folder / (name + ".html"), report::sensitivity_page(profile, kLongName));
}

profile::Profile falling(int64_t blocks) {
  return test::make_profile(test::seven_layers(blocks), {0.1, 0.2, 0.35, 0.5, 0.75},
                            [](const plan::Layer& layer, double share) {
                              return 5.0 * std::exp(-14 * share) /
                                     (1.0 + static_cast<double>(layer.block));
                            });
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  const std::filesystem::path folder = arguments[1];
  write_profile(folder, "profile_deep", falling(32));
  profile::Profile far = falling(4);
  far.layers[3].points[1].value = 1.234e7;
  far.layers[4].points[0].value = std::numeric_limits<double>::infinity();
  far.layers[5].points[4].value = 1.5e-9;
  write_profile(folder, "profile_far", far);
  profile::Profile accuracy =
      test::make_profile(test::seven_layers(2), {0.1, 0.3},
                         [](const plan::Layer&, double share) { return 0.25 + 0.5 * share; });
  accuracy.metric = "hellaswag";
  accuracy.dense = 0.7;
  write_profile(folder, "profile_accuracy", accuracy);
  profile::Profile shared = falling(3);
  std::erase_if(shared.layers, [](const auto& l) {
    const int kind = l.network.layer.paper_numbers.front();
    return kind == 2 || kind == 3 || kind == 6;
  });
  for (auto& layer : shared.layers) {
    auto& kinds = layer.network.layer.paper_numbers;
    if (kinds.front() == 1) kinds = {1, 2, 3};
    if (kinds.front() == 5) kinds = {5, 6};
  }
  write_profile(folder, "profile_shared", shared);

  write(folder / "healing.html", report::healing_page(test::made_log(400), "Healing " + kLongName));
  std::vector<nlohmann::json> log = test::made_log(160000);
  std::erase_if(log, [](const nlohmann::json& line) {
    return line.contains("step") && line["step"].get<int64_t>() % 1000 > 1;
  });
  for (nlohmann::json& line : log) {
    if (line.value("step", 0) == 50000 && line.contains("loss")) {
      line["loss"] = 812.5;
      line["gradient_norm"] = 3e6;
    }
  }
  log.front()["run"]["data"] = std::vector<std::string>(4, kLongName);
  write(folder / "healing_far.html", report::healing_page(log, "Healing"));
  write(folder / "healing_little.html",
        report::healing_page({{{"step", 1}, {"loss", 2.5}}, {{"block", 0}}}, "Healing"));

  write(folder / "run.html", report::run_page(test::made_run(), "results/"));
  report::RunFacts long_names = test::made_run();
  for (report::ModelFacts& model : long_names.models) model.name = kLongName + model.name;
  for (report::TextFacts& text : long_names.texts) text.text = kLongName;
  long_names.text_scores[1].perplexity *= 1e6;
  write(folder / "run_long.html", report::run_page(long_names, ""));
  write(folder / "run_little.html",
        report::run_page({.name = "little", .stages = long_names.stages}, ""));
  return 0;
}
