// A matrix as a Matrix Product Operator (MPO), made in two ways: from cores of one's own, and by
// TT-SVD, which finds the bond that the matrix needs.
//
//   usage: mpo_by_hand
#include <cstdio>

#include <schmidt/schmidt.h>

namespace tn = schmidt::tn;

int main() {
  at::manual_seed(1);
  // Two cores, [bond_left, out, in, bond_right], joined by a bond of dimension 3. Their matrix is
  // 32 x 30: the rows are (8, 4), the columns (6, 5), the first site the more significant.
  const tn::Mpo by_hand({at::randn({1, 8, 6, 3}), at::randn({3, 4, 5, 1})});
  const torch::Tensor w = by_hand.to_dense();  // [32, 30]
  std::printf("%ld numbers stand for a matrix of %ld\n", static_cast<long>(by_hand.numel()),
              static_cast<long>(w.numel()));

  // A vector is multiplied core by core, without W.
  const torch::Tensor x = at::randn({7, 30});
  const double apart = (by_hand.apply(x) - at::matmul(x, w.t())).abs().max().item<double>();

  // TT-SVD of W over the same sites: the bond is 3 again, and the error is rounding.
  const tn::Factorization found = tn::factorize(w, {.shape = {{8, 4}, {6, 5}}});
  // With a bond of 2 something is lost, and the result says how much.
  const tn::Factorization cut = tn::factorize(w, {.shape = {{8, 4}, {6, 5}}, .max_bonds = {{2}}});
  const double measured = ((cut.mpo.to_dense() - w).norm() / w.norm()).item<double>();

  std::printf("bond found: %ld, its error %.1e\n", static_cast<long>(found.mpo.bonds().front()),
              found.relative_error);
  std::printf("bond 2: error %.6f as reported, %.6f as measured\n", cut.relative_error, measured);
  const bool as_expected = apart < 1e-4 && found.mpo.bonds().front() == 3 &&
                           std::abs(cut.relative_error - measured) < 1e-4;
  return as_expected ? 0 : 1;
}
