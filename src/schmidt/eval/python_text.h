#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// Methods of Python's str on valid UTF-8, in which lm-evaluation-harness words its prompts
/// and compares answers.
namespace schmidt::eval {

/// str.strip() and str.rstrip().
std::string_view stripped(std::string_view text);
std::string_view right_stripped(std::string_view text);

/// str.lower(), each character by its single lower-case character.
std::string lower(std::string_view text);

/// Without string.punctuation, the 32 characters of ASCII.
std::string without_punctuation(std::string_view text);

/// str.replace(old, by).
std::string replaced(std::string_view text, std::string_view old, std::string_view by);

/// len(text).
size_t characters(std::string_view text);

}  // namespace schmidt::eval
