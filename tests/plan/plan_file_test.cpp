#include "schmidt/plan/plan_file.h"

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/plan/uniform.h"

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt::plan {
namespace {

using nlohmann::json;

class PlanFileTest : public ::testing::Test {
 protected:
  PlanFileTest()
      : checkpoint(io::Checkpoint::open(test::write_model(test::make_tiny_model(), tmp / "m"))),
        model(outline(checkpoint)) {
    PlanFile file;
    file.made_by = json::object();
    file.layers = plan_bond(select_layers(share_inputs(model.layers), {}), {.low_rank = true}, 5);
    for (const LayerPlan& p : plan_bond({model.layers.at(6)}, {.sites = 3}, 4)) {
      file.layers.push_back(p);
      file.layers.back().fixed_gauge = false;
    }
    planned = file.layers;
    write_plan(tmp / "plan.json", file, model);
    content = json::parse(test::read_file(tmp / "plan.json"));
  }

  // The message that reading the changed plan fails with.
  std::string refused(const std::function<void(json&)>& change) {
    json changed = content;
    change(changed);
    test::write_file(tmp / "bad.json", changed.dump());
    try {
      read_plan(tmp / "bad.json", checkpoint);
    } catch (const FormatError& e) {
      EXPECT_NE(std::string(e.what()).find("bad.json"), std::string::npos) << e.what();
      return e.what();
    }
    ADD_FAILURE() << "expected a FormatError";
    return "";
  }

  test::TemporaryFolder tmp;
  io::Checkpoint checkpoint;
  Outline model;
  std::vector<LayerPlan> planned;
  json content;
};

TEST_F(PlanFileTest, ReadsBackWhatWasPlannedInTheModelsOrder) {
  const std::vector<LayerPlan> read = read_plan(tmp / "plan.json", checkpoint).layers;
  ASSERT_EQ(read.size(), planned.size());
  EXPECT_EQ(read[3].layer.name, "model.layers.0.mlp.down_proj");  // written last
  EXPECT_EQ(read[3].shape.sites(), 3);
  EXPECT_FALSE(read[3].fixed_gauge);
  int64_t parameters = 0, expected = 0;
  for (const LayerPlan& p : read) parameters += p.parameters();
  for (const LayerPlan& p : planned) expected += p.parameters();
  EXPECT_EQ(parameters, expected);
  EXPECT_EQ(read[0].layer.members.size(), 3u);
  EXPECT_EQ(content["dense"], json({"model.layers.1.mlp.down_proj"}));
}

TEST_F(PlanFileTest, RefusesAnotherModelsPlan) {
  const auto other =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(2, 9), tmp / "other"));
  EXPECT_THROW(read_plan(tmp / "plan.json", other), FormatError);
  const auto larger =
      io::Checkpoint::open(test::write_model(test::make_tiny_model(3), tmp / "larger"));
  EXPECT_THROW(read_plan(tmp / "plan.json", larger), FormatError);
}

TEST_F(PlanFileTest, APlanFromAConfigAloneFitsTheModelWithWeights) {
  const Outline dry = open_outline(tmp / "m/config.json");
  EXPECT_EQ(dry.parameters, model.parameters);
  EXPECT_FALSE(dry.fingerprint);
  write_plan(tmp / "dry.json", {plan_bond({dry.layers.front()}, {}, 3), 1.0, json::object(), {}},
             dry);
  EXPECT_EQ(read_plan(tmp / "dry.json", checkpoint).layers.size(), 1u);
}

TEST_F(PlanFileTest, RefusesWhatDoesNotHold) {
  const auto first = [](json& plan) -> json& { return plan["layers"][0]; };
  const std::vector<std::pair<std::string, std::function<void(json&)>>> changes = {
      {"version", [](json& p) { p["version"] = 2; }},
      {"layers", [](json& p) { p.erase("layers"); }},
      {"made_by", [](json& p) { p.erase("made_by"); }},
      {"layers.0: expected an object", [&](json& p) { first(p) = 3; }},
      {"dense layer of the model",
       [&](json& p) { first(p)["name"] = "model.layers.9.mlp.up_proj"; }},
      {"members", [&](json& p) { first(p)["members"] = json::array({"a"}); }},
      {"found it twice", [&](json& p) { p["layers"].push_back(first(p)); }},
      {"multiply out",
       [&](json& p) {
         first(p)["out_dims"] = {47, 1};
       }},
      {"multiply out",
       [&](json& p) {
         first(p)["in_dims"] = {1 << 28, 1 << 28};
       }},
      {"sites", [&](json& p) { first(p)["out_dims"] = {48}; }},
      {"bonds",
       [&](json& p) {
         first(p)["bonds"] = {5, 5};
       }},
      {"at most 24", [&](json& p) { first(p)["bonds"] = {25}; }},
      {"bonds", [&](json& p) { first(p)["bonds"] = {nullptr}; }},  // as NaN is written
      {"bonds", [&](json& p) { first(p)["bonds"] = {2.5}; }},
      {"bonds", [&](json& p) { first(p)["bonds"] = {0}; }},
      {"gauge", [&](json& p) { first(p)["gauge"] = true; }},
      {"dense", [&](json& p) { p["dense"] = {"model.layers.0.mlp.down_proj"}; }},
      {"fingerprint", [](json& p) { p["model"]["fingerprint"] = 1; }},
      {"float32 or bfloat16", [](json& p) { p["dtype"] = "float8"; }},
  };
  for (const auto& [part, change] : changes) {
    const std::string message = refused(change);
    EXPECT_NE(message.find(part), std::string::npos) << "expected \"" << part << "\": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
  test::write_file(tmp / "bad.json", R"({"version": 1, "keep": NaN})");
  EXPECT_THROW(read_plan(tmp / "bad.json", checkpoint), FormatError);
}

}  // namespace
}  // namespace schmidt::plan
