#include "schmidt/calibrate/saved_position.h"

#include <algorithm>
#include <utility>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"

namespace schmidt::calibrate {

namespace fs = std::filesystem;

SavedPosition::SavedPosition(fs::path folder, const std::string& name, Workers workers,
                             double save_after)
    : folder_(std::move(folder)),
      name_(name),
      workers_(std::move(workers)),
      save_after_(save_after) {
  if (path_exists(file())) {
    const nlohmann::json json = io::read_json_object(file());
    place_ = json.value("place", int64_t{0});
    files_ = json.value("files", std::vector<std::string>{});
  }
  workers_.meet();  // all have seen the same place before anyone saves another
}

bool SavedPosition::due() const { return workers_.agreed(seconds_) >= save_after_; }

void SavedPosition::save(int64_t place, const std::vector<ActivationStream*>& streams) {
  std::vector<std::string> files;
  for (ActivationStream* stream : streams) {
    stream->keep();
    files.push_back(stream->name());
  }
  workers_.meet();
  if (workers_.first()) {
    sync_folder(folder_);
    write_file_atomically(file(), nlohmann::json{{"place", place}, {"files", files}}.dump());
    for (const std::string& old : files_) {
      std::error_code ignored;
      if (std::ranges::find(files, old) == files.end()) fs::remove(folder_ / old, ignored);
    }
  }
  workers_.meet();
  place_ = place;
  files_ = std::move(files);
  seconds_ = 0.0;
}

}  // namespace schmidt::calibrate
