#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace schmidt {

// std::filesystem's questions and changes as the rest of the program asks them: where the system
// refuses (no permission, a loop of links, a name too long), they throw SystemError, which names
// the path. Nothing at a path is an answer and not a refusal: false.

/// The last name in a path, "small" of "models/small/" too.
std::string last_name(const std::filesystem::path& path);

/// Links are followed, so that a link that leads nowhere does not exist.
bool path_exists(const std::filesystem::path& path);
/// The name itself, a link that leads nowhere included.
bool entry_exists(const std::filesystem::path& path);
bool is_folder(const std::filesystem::path& path);
bool is_plain_file(const std::filesystem::path& path);

/// Of a folder that is there.
bool is_empty_folder(const std::filesystem::path& folder);

/// What stands in a folder that is there, by name.
std::vector<std::filesystem::path> folder_entries(const std::filesystem::path& folder);

/// Of a file that is there.
uint64_t bytes_of_file(const std::filesystem::path& file);

/// A folder and those that it stands in, as far as they are missing.
void make_folders(const std::filesystem::path& folder);

/// Nothing happens where nothing is there. A link is removed, not what it leads to.
void remove_file(const std::filesystem::path& file);
void remove_tree(const std::filesystem::path& path);

/// Within one file system; replaces a file.
void move_path(const std::filesystem::path& from, const std::filesystem::path& to);

/// To a path where nothing is yet.
void copy_plain_file(const std::filesystem::path& from, const std::filesystem::path& to);

/// The absolute path without links. Of what is there.
std::filesystem::path without_links(const std::filesystem::path& path);

}  // namespace schmidt
