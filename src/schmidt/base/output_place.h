#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace schmidt {

/// The absolute place that the name of an output stands for: ".", ".." and a slash at the end
/// are resolved, links are followed, a last one also to where nothing is yet. What is made or
/// replaced there leaves the links as they are.
/// Throws c10::ValueError for an empty name, SystemError where the system refuses to look.
std::filesystem::path resolved_place(const std::filesystem::path& path);

/// A name with an ending added to it: OUT and ".partial".
std::filesystem::path with_ending(const std::filesystem::path& path, std::string_view ending);

/// Something that a run reads, and what to call it: {"the model", "models/a"}.
struct InputPath {
  std::string what;
  std::filesystem::path path;  ///< a file, or a folder and all in it; may not exist
};

/// Throws c10::ValueError if one of `places`, which a run writes or replaces, is or holds
/// something that it reads, or what a link in a folder that it reads points to. A place may lie
/// in such a folder.
/// Files and folders are compared, not their names. Throws SystemError.
void check_apart(const std::vector<std::filesystem::path>& places,
                 const std::vector<InputPath>& inputs);

/// Throws c10::ValueError if one of the places, resolved, is another one or lies in it.
void check_apart_from_each_other(const std::vector<std::filesystem::path>& places);

/// Throws c10::ValueError for a folder that cannot be renamed or that no run may pull away: the
/// working directory, one that holds it, the root of a file system. Others, and what does not
/// exist, are fine.
void check_can_be_replaced(const std::filesystem::path& folder);

/// Whether a name may stand in a folder of a certain kind.
using OwnName = std::function<bool(const std::string& name)>;

/// The first name, in their order, of something in a folder that is not of its kind; none where
/// all are, or where there is no folder. Throws SystemError.
std::optional<std::string> foreign_name(const std::filesystem::path& folder, const OwnName& own);

/// Whether `name` is `beginning`, a number and `ending`: "points.12".
bool is_numbered(std::string_view name, std::string_view beginning, std::string_view ending = {});

}  // namespace schmidt
