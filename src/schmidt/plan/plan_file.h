#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "schmidt/io/json_record.h"
#include "schmidt/plan/outline.h"
#include "schmidt/plan/plan.h"

namespace schmidt::plan {

/// A plan with where it comes from, as plan.json holds it:
///
///   {"version": 1, "model": {"fingerprint": "..", "parameters": n}, "keep": 0.6,
///    "made_by": {..}, "predicted": {..}, "dtype": "bfloat16",
///    "dense": ["model.layers.0.mlp.down_proj", ..],
///    "layers": [{"name": "..", "members": [".."], "method": "whitened",
///                "out_dims": [m, 1], "in_dims": [1, n], "bonds": [r], "gauge": "fixed"},
///               {"name": "..", "members": [".."], "method": "nearest",
///                "integers": {"bits": 4, "group": 64, "symmetric": false},
///                "rank": r, "factor_integers": {"bits": 8, ..}},
///               {"name": "..down_proj", "members": [".."], "method": "prune", "neurons": k}]}
///
/// "pruning", a list like "layers", is there where MLPs lose neurons first: "layers" are then of
/// the model that this leaves. "fingerprint" is null where the plan was made from a config alone;
/// "dtype" is there where the plan asks for one.
struct PlanFile {
  std::vector<LayerPlan> layers;
  double keep = 1.0;         ///< of the whole model, as it comes out
  nlohmann::json made_by;    ///< the recipe
  nlohmann::json predicted;  ///< sizes, memory, loss: for people
  std::string dtype = {};    ///< of what is written, "float32" or "bfloat16"; empty: as it is
  std::vector<LayerPlan> pruning = {};  ///< of MLPs that lose neurons before all else
};

/// Appears whole or not at all. Throws SystemError.
void write_plan(const std::filesystem::path& path, const PlanFile& plan, const Outline& model);

/// A plan for this model, its layers in the model's order; `predicted` stays empty.
/// Throws FormatError for a plan of another model, a layer that the model does not have
/// or that stands twice, a shape that does not multiply out to its layer, a bond beyond
/// what its sides carry, an unknown method, or anything missing or mistyped.
PlanFile read_plan(const std::filesystem::path& path, const Outline& model);
PlanFile read_plan(const std::filesystem::path& path, const io::Checkpoint& checkpoint);

/// Planned layers as the file's "layers" hold them.
nlohmann::ordered_json planned_json(const std::vector<LayerPlan>& layers);
/// Those under `key` of `object`, in the model's order. Throws FormatError as read_plan.
std::vector<LayerPlan> read_planned(const io::JsonRecord& object, const Outline& model,
                                    const char* key = "layers");

/// The fields of a layer's network that plans and profiles have in common: "out_dims",
/// "in_dims", "method", "gauge".
void write_network(nlohmann::ordered_json& entry, const LayerPlan& plan);
/// Checked against the layer's size; `max_bonds` stay empty. Throws FormatError.
LayerPlan read_network(const io::JsonRecord& entry, const Layer& layer);
/// "bonds" under `entry`, checked against the shape. Throws FormatError.
std::vector<int64_t> read_bonds(const io::JsonRecord& entry, const tn::SiteShape& shape);

}  // namespace schmidt::plan
