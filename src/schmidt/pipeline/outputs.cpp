#include "schmidt/pipeline/outputs.h"

#include <exception>
#include <fstream>
#include <iterator>
#include <system_error>

#include <c10/util/Exception.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/convert/gguf_metadata.h"
#include "schmidt/io/json.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/report/page.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr size_t kHead = 1024;  // bytes in which a page or a figure says who made it

/// A profile, a plan, a figure, a page or a GGUF file.
bool is_written_by_schmidt(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string head(kHead, '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<size_t>(in.gcount()));
  if (head.empty() || head.find(report::kMadeBy) != std::string::npos) return true;
  if (head.starts_with("GGUF")) return convert::is_exported_gguf(file);
  if (!head.starts_with('{')) return false;
  try {
    const nlohmann::json made_by = io::read_json_object(file).value("made_by", nlohmann::json());
    return made_by.is_object() && made_by.value("program", std::string()).starts_with("schmidt ");
  } catch (const std::exception&) {  // whatever it is, it was not written here
    return false;
  }
}

}  // namespace

fs::path output_file(const fs::path& file, bool force, const std::vector<InputPath>& inputs) {
  const fs::path place = resolved_place(file);
  if (parallel::rank() != 0) return place;
  check_apart({place}, inputs);
  std::error_code error;
  const fs::file_status status = fs::symlink_status(place, error);
  if (!fs::exists(status)) return place;
  TORCH_CHECK_VALUE(fs::is_regular_file(status), "[output] ", file.string(),
                    " exists and is no file; expected a new file");
  TORCH_CHECK_VALUE(force, "[output] ", file.string(), " exists; expected a new file (or force)");
  TORCH_CHECK_VALUE(is_written_by_schmidt(place), "[output] ", file.string(),
                    " was not written by schmidt; expected a new file, or one that force may "
                    "replace");
  return place;
}

fs::path output_folder(const fs::path& out, const std::vector<fs::path>& beside,
                       const std::vector<InputPath>& inputs) {
  const fs::path place = resolved_place(out);
  if (parallel::rank() != 0) return place;
  std::vector<fs::path> places = {place, partial_folder(place)};
  places.insert(places.end(), beside.begin(), beside.end());
  check_apart(places, inputs);
  check_apart_from_each_other(places);
  return place;
}

}  // namespace schmidt::pipeline
