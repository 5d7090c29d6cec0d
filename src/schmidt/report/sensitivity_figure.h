#pragma once

#include <cstddef>
#include <string>

#include "schmidt/profile/profile_file.h"

namespace schmidt::report {

/// The paper's sensitivity figure: a panel for each kind of layer, in it a line for each
/// block, the metric against the bond or the share of the layer's parameters; dashed, the
/// original. Below it, the heat map of the middle setting. A document of SVG.
/// Source: arXiv 2401.14109, figure 5.
std::string sensitivity_svg(const profile::Profile& profile);

/// Blocks down, kinds of layers across, the metric at one setting as a colour and a number.
std::string heat_map_svg(const profile::Profile& profile, size_t setting);

/// Both, a heat map for each setting, and the numbers, in one page that opens without a
/// network. `model` is for the title.
std::string sensitivity_page(const profile::Profile& profile, const std::string& model);

}  // namespace schmidt::report
