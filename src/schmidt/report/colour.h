#pragma once

#include <cstdint>

namespace schmidt::report {

/// 0xRRGGBB on a light page and on a dark one.
struct Colour {
  uint32_t light, dark;
};

constexpr Colour kInk = {0x333333, 0xdddddd};  ///< of text
constexpr Colour kTitle = {0x111111, 0xf2f2f2};
constexpr Colour kPaper = {0xffffff, 0x16181c};
constexpr Colour kEmpty = {0xf2f2f2, 0x24272c};  ///< where a value could be and is not
constexpr Colour kGrid = {0xe8e8e8, 0x33373d};
constexpr Colour kFrame = {0x888888, 0x777777};
constexpr Colour kPale = {0x757575, 0x9a9a9a};  ///< of text that says there is nothing
constexpr Colour kBlue = {0x1f5fa8, 0x7fb2ee};
constexpr Colour kPaleBlue = {0xb9cfe8, 0x33506f};
constexpr Colour kGreen = {0x1f8f6f, 0x6fd0b0};
constexpr Colour kPaleGreen = {0xb5dccf, 0x2c5a4b};
constexpr Colour kRed = {0xc0392b, 0xff8a80};
constexpr Colour kOrange = {0xd9822b, 0xf0a860};

/// A colour of a scale from dark violet (0) over green to yellow (1) whose lightness
/// rises evenly, so that order shows in grey and to colour-blind eyes: 0x21918c in the middle.
/// Interpolated between nine colours of the scale known as viridis. For areas that hold
/// their own text, the same on every page.
Colour scale_colour(double position);

/// The same scale for lines, without the end that a page of either kind would swallow.
Colour line_colour(double position);

/// Black or white, whichever reads better on scale_colour(position).
Colour ink_on(double position);

}  // namespace schmidt::report
