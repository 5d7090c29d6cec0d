#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <utility>

#include "schmidt/base/held_folder.h"

namespace schmidt {

/// Removes everything in a folder but one entry of it, and its lock.
void remove_all_but(const std::filesystem::path& folder, const std::filesystem::path& kept);

/// A folder of unfinished work that a killed run may have left, for the same work to go on in.
/// An empty file in it, the stamp, is named after the work. Whoever made the stamp removes all
/// again where the work ends without results: a mistake found at the start leaves nothing.
class WorkFolder {
 public:
  /// Whether a folder holds something that a run can go on from.
  using HasResults = std::function<bool(const std::filesystem::path& folder)>;

  /// work: a name of model, data and options, as package::Fingerprint makes it.
  WorkFolder(std::filesystem::path folder, const std::string& work,
             HasResults has_results = holds_anything)
      : folder_(std::move(folder)), stamp_(folder_ / work), has_results_(std::move(has_results)) {}
  ~WorkFolder();
  WorkFolder(WorkFolder&& other) noexcept
      : folder_(std::move(other.folder_)),
        stamp_(std::move(other.stamp_)),
        has_results_(std::move(other.has_results_)),
        made_(std::exchange(other.made_, false)) {}
  WorkFolder& operator=(WorkFolder&&) = delete;

  const std::filesystem::path& path() const { return folder_; }

  /// A folder without results holds no work: a kill right after the start leaves one.
  enum class Holds { kNothing, kThisWork, kOtherWork };
  Holds holds() const;

  /// The same of a folder that stands in one for this work alone: what lies there without it is
  /// other work.
  Holds holds_in_own_folder() const;

  /// Makes the folder and the stamp where they are not there yet. What other work had left
  /// without results goes. Throws SystemError.
  void claim();

 private:
  std::filesystem::path folder_, stamp_;
  HasResults has_results_;
  bool made_ = false;  // the stamp, by this object
};

}  // namespace schmidt
