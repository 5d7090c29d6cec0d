#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace schmidt::report {

/// Width in pixels that UTF-8 text of this size takes at most in the common sans-serif fonts.
/// An estimate, since a figure is drawn before any font is known: on average a letter is no
/// wider than 0.64 of the size, and no wider than 1.1 in scripts other than Latin.
double text_width(std::string_view text, double size, bool bold = false);

/// From one line of text to the next.
double line_height(double size);

/// The text in lines no wider than `width` pixels, broken between words, or inside of a word that
/// is wider than a line. At least one line, with at least one character in each unless the text is
/// empty.
std::vector<std::string> wrapped(std::string_view text, double width, double size,
                                 bool bold = false);

}  // namespace schmidt::report
