#include "schmidt/pipeline/heal_model.h"

#include <chrono>
#include <string>
#include <vector>

#include "schmidt/base/atomic_file.h"
#include "schmidt/heal/team.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/package/checkpoint_folder.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/report/healing_page.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// The log of a run as a page beside it.
class LogPage {
 public:
  explicit LogPage(const io::Checkpoint& student)
      : title_("Healing " + io::model_name(student.path())) {}

  void write(const fs::path& log) const {
    fs::path html = log;
    html.replace_extension(".html");
    write_file_atomically(html, report::healing_page(heal::read_run_log(log), title_));
  }

  /// While a run goes on.
  void write_now_and_then(const fs::path& log) {
    using Clock = std::chrono::steady_clock;
    constexpr auto kBetween = std::chrono::seconds(30);
    if (written_ && Clock::now() - *written_ < kBetween) return;
    written_ = Clock::now();
    write(log);
  }

 private:
  std::string title_;
  std::optional<std::chrono::steady_clock::time_point> written_;
};

}  // namespace

heal::HealResult heal_model(const io::Checkpoint& student,
                            const std::optional<io::Checkpoint>& teacher,
                            const heal::HealOptions& options, const HealRun& run,
                            const Reporter& reporter) {
  heal::Team team = heal::make_team(run.stages, run.exchange);
  std::vector<InputPath> inputs = {{"the model", student.path()}};
  for (const heal::Source& source : options.data) inputs.push_back({"data", source.file});
  if (teacher) inputs.push_back({"the teacher", teacher->path()});
  const fs::path out = output_folder(run.out, {}, inputs);
  std::optional<AtomicFolder> claimed;  // held for all ranks from here on
  if (team.leads()) claimed.emplace(out, options.force, package::checkpoint_folder());

  LogPage page(student);
  const auto logged = [&](const fs::path& log) { page.write_now_and_then(log); };
  heal::HealResult result = heal::heal(student, teacher, out, options,
                                       {reporter.progress, run.interrupted, logged}, team);
  if (team.leads() && result.ended != heal::Ended::kInterrupted) page.write(out / "heal.jsonl");
  return result;
}

}  // namespace schmidt::pipeline
