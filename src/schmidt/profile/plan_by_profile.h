#pragma once

#include <cstdint>
#include <vector>

#include "schmidt/plan/layers.h"
#include "schmidt/plan/plan.h"
#include "schmidt/profile/profile_file.h"

namespace schmidt::profile {

/// Between which shares of its parameters a layer may be cut.
struct ShareLimits {
  double floor = 0.0;    ///< at least this share stays, [0, 1]
  double ceiling = 1.0;  ///< at most this one, (0, 1]; below 1 no layer stays dense
};

/// What a profile says of one layer of a model at any number of parameters:
///
///   sqrt(loss)
///     |  x                measured points; between them and to the dense layer, whose
///     |     ' x           loss is 0, the square root is linear: the divergence grows
///     |          ' .      with the square of a weight's error
///     |_______________'x__ parameters
///
/// A layer in a block that was not profiled lies between the nearest blocks that were,
/// in proportion to its distance from them.
struct Sensitivity {
  plan::LayerPlan network;    ///< as profiled; no bonds
  std::vector<Point> points;  ///< parameters ascending, losses finite and not negative

  /// Loss at these parameters; that of the cheapest point below it.
  double loss(int64_t parameters) const;
};

/// The layers of the model that the profile speaks of: stacked as profiled, those of
/// blocks in between included. Layers of a kind that was not profiled are not among them.
/// Throws c10::ValueError if shapes are not those profiled.
std::vector<Sensitivity> sensitivities(const Profile& profile,
                                       const std::vector<plan::Layer>& layers);

struct ProfilePlan {
  std::vector<plan::LayerPlan> layers;  ///< those that stay dense are left out
  double loss =
      0.0;  ///< sum of the layers' losses alone, nats a token: their interaction is not in it
};

/// Spends `budget` parameters over these layers by quality gained for each parameter
/// along the lower convex hulls of their curves (plan::allocate).
/// Throws c10::ValueError, naming the least that can be had, if the budget is smaller.
ProfilePlan plan_by_profile(const std::vector<Sensitivity>& layers, int64_t budget,
                            const ShareLimits& limits);

/// The least that plan_by_profile can spend.
int64_t least_parameters(const std::vector<Sensitivity>& layers, const ShareLimits& limits);

/// The sum of losses that the profile predicts for a plan made some other way.
double predicted_loss(const std::vector<Sensitivity>& layers,
                      const std::vector<plan::LayerPlan>& plan);

}  // namespace schmidt::profile
