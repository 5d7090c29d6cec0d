#include "schmidt/pipeline/report_run.h"

#include <string>

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/pipeline/read_run.h"
#include "schmidt/report/run_page.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

/// "", "../out/".
std::string folder_from(const fs::path& page, const fs::path& folder) {
  const std::string relative =
      without_links(folder).lexically_relative(page.parent_path()).generic_string();
  return relative == "." ? "" : relative + "/";
}

}  // namespace

report::RunFacts report_run(const fs::path& folder, const fs::path& out, bool force) {
  TORCH_CHECK_VALUE(out.extension() == ".html", "[report] expected a .html file, got ",
                    out.string());
  TORCH_CHECK_VALUE(is_folder(folder), "[report] expected the folder of a run, got ",
                    folder.string(), path_exists(folder) ? "" : ", which does not exist");
  report::RunFacts facts = read_run(folder);
  const fs::path place = output_file(out, force, {{"the run", folder}});
  write_file_atomically(place, report::run_page(facts, folder_from(place, folder)));
  return facts;
}

}  // namespace schmidt::pipeline
