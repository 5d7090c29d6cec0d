#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "schmidt/tn/site_shape.h"

namespace schmidt::report {

/// A weight W [rows, cols] as a Matrix Product Operator of several numbers of sites.
struct Decomposition {
  int64_t rows = 0, cols = 0;
  std::vector<tn::SiteShape> shapes;  ///< balanced, of 2 and of 3 sites, as far as rows and cols
                                      ///< have enough factors

  int64_t numel() const { return rows * cols; }
};

/// Throws c10::ValueError unless both are at least 1.
Decomposition decompose(int64_t rows, int64_t cols);

/// Numbers in all cores, every bond chi or what it can be at most.
int64_t parameters_at(const tn::SiteShape& shape, int64_t chi);

/// The largest chi at which the cores hold fewer numbers than the weight; 0 where none is.
int64_t last_saving_bond(const Decomposition& decomposition, const tn::SiteShape& shape);

/// "864 χ + 1,024 χ", "100 χ + 96 χ² + 92 χ".
std::string count_formula(const tn::SiteShape& shape);

/// The weight and its networks as the tensors and legs that they are. A document of SVG.
/// Source: arXiv 2401.14109, figure 1.
std::string network_svg(const Decomposition& decomposition);

/// Numbers stored against the bond dimension, a line for each network; dashed, the weight itself.
std::string parameters_svg(const Decomposition& decomposition);

}  // namespace schmidt::report
