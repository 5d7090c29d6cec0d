#pragma once

#include <filesystem>
#include <string>

namespace schmidt {

/// Removes everything in a folder but one entry of it.
void remove_all_but(const std::filesystem::path& folder, const std::filesystem::path& kept);

/// A folder of unfinished work that a killed run may have left, for the same work to go on in.
/// An empty file in it, the stamp, is named after the work.
class WorkFolder {
 public:
  /// work: a name of model, data and options, as package::Fingerprint makes it.
  WorkFolder(std::filesystem::path folder, const std::string& work)
      : folder_(std::move(folder)), stamp_(folder_ / work) {}

  const std::filesystem::path& path() const { return folder_; }

  /// A folder without anything in it holds no work: a kill right after the start leaves one.
  enum class Holds { kNothing, kThisWork, kOtherWork };
  Holds holds() const;

  /// The same of a folder that stands in one for this work alone: what lies there without it is
  /// other work.
  Holds holds_in_own_folder() const;

  /// Makes the folder and the stamp where they are not there yet. Throws SystemError.
  void claim() const;

 private:
  std::filesystem::path folder_, stamp_;
};

}  // namespace schmidt
