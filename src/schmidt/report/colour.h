#pragma once

#include <string>

namespace schmidt::report {

/// A colour of a scale from dark violet (0) over green to yellow (1) whose lightness
/// rises evenly, so that order shows in grey and to colour-blind eyes: "#21918c".
/// Interpolated between nine colours of the scale known as viridis.
std::string scale_colour(double position);

/// Black or white, whichever reads better on scale_colour(position).
std::string ink_on(double position);

}  // namespace schmidt::report
