#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "schmidt/profile/profile_file.h"
#include "schmidt/report/page.h"

namespace schmidt::report {

/// The paper's sensitivity figure: a panel for each kind of layer, in it a line for each
/// block, the metric against the bond or the share of the layer's parameters; dashed, the
/// original. Below it, the heat map of the middle setting. A document of SVG.
/// Source: arXiv 2401.14109, figure 5.
std::string sensitivity_svg(const profile::Profile& profile);

/// Its panels, each by itself, and the legend behind the last.
std::vector<std::string> sensitivity_panels(const profile::Profile& profile);

/// Every layer with what is measured at each setting.
CellTable sensitivity_table(const profile::Profile& profile);

/// What the metric is, "KL divergence, nats a token".
std::string metric_label(const profile::Profile& profile);

/// Blocks down, kinds of layers across, the metric at one setting as a colour and a number.
std::string heat_map_svg(const profile::Profile& profile, size_t setting);

/// Both, a heat map for each setting, and the numbers, in one page that opens without a
/// network. `model` is for the title.
std::string sensitivity_page(const profile::Profile& profile, const std::string& model);

}  // namespace schmidt::report
