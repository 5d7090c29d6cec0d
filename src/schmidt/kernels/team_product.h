#pragma once

#include <cstdint>
#include <memory>

#include "schmidt/kernels/team.h"

namespace schmidt::kernels {

/// Rows x of a product and where its outputs go, both in the product's dtype.
struct TeamRows {
  const void* x = nullptr;  ///< [rows, n], the same numbers for every member
  void* y = nullptr;        ///< [rows, m], shared by all
  void* between = nullptr;  ///< TeamProduct::between() numbers for each row, shared by all
  int64_t rows = 0, x_stride = 0, y_stride = 0;  ///< in numbers, from row to row
};

struct TeamScratch;

/// y = x W^T + b for a few rows of x, by a team: every member calls `run` and computes its share of
/// the outputs. They are all there once the team has met after it, and only then may it go on to
/// another product. Memory that was given is used as it is: its owner keeps it.
class TeamProduct {
 public:
  TeamProduct(int64_t m, int64_t n) : m_(m), n_(n) {}
  virtual ~TeamProduct() = default;

  int64_t m() const { return m_; }
  int64_t n() const { return n_; }

  /// Numbers that members hand to each other within the product, for each row of x.
  virtual int64_t between() const { return 0; }

  /// Bytes of weights that are read.
  virtual int64_t bytes() const = 0;

  /// For up to kMostTeamRows rows. Allocates nothing once `scratch` has been used before for as
  /// many.
  virtual void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const = 0;

 private:
  int64_t m_, n_;
};

/// Rows of x for which passes over the weights as they lie are the fastest way (measured with
/// AVX-512), and what members do for themselves takes little beside them.
inline constexpr int64_t kMostTeamRows = 8;

using TeamProductPtr = std::unique_ptr<const TeamProduct>;

}  // namespace schmidt::kernels
