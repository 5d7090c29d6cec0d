#include <set>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "schmidt/kernels/instruction_sets.h"

#include "tests/cli/program.h"

namespace schmidt::test {
namespace {

class Doctor : public ::testing::Test {
 protected:
  Ran run(const std::string& before, const std::string& arguments) {
    return run_in_shell(tmp,
                        fmt::format("{} $S doctor {} {}", before, tmp.path().string(), arguments));
  }
  nlohmann::json json(const std::string& before = "") {
    const Ran ran = run(before, "--json");
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_EQ(ran.err, "");
    return nlohmann::json::parse(ran.out);
  }
  static bool lacks(const nlohmann::json& report, const std::string& what) {
    for (const auto& line : report["missing"]) {
      if (line.get<std::string>().starts_with(what)) return true;
    }
    return false;
  }

  TemporaryFolder tmp;
};

TEST_F(Doctor, MeasuresThisMachine) {
  const auto report = json();
  EXPECT_GT(report["read_bytes_per_second"], 1e8);
  EXPECT_GT(report["flops"]["float32"], 1e8);
  EXPECT_GT(report["memory"]["free_bytes"], 0);
  EXPECT_LE(report["memory"]["free_bytes"], report["memory"]["bytes"]);
  EXPECT_LE(report["disk"]["free_bytes"], report["disk"]["bytes"]);
  EXPECT_GE(report["processor"]["threads"], 1);
  for (const auto set : kernels::instruction_sets()) {
    const auto& named = report["processor"]["instruction_sets"];
    const bool is_named =
        std::find(named.begin(), named.end(), kernels::name_of(set)) != named.end();
    EXPECT_EQ(is_named, kernels::supported(set)) << kernels::name_of(set);
  }
}

TEST_F(Doctor, SaysWhatThisMachineHolds) {
  const auto report = json();
  const double memory = report["memory"]["free_bytes"];
  ASSERT_EQ(report["capacity"]["largest"].size(), 3U);
  int64_t before = 0;
  for (const auto& largest : report["capacity"]["largest"]) {  // 16, 8, 4 bits
    EXPECT_LE(largest["bytes"], memory);
    EXPECT_GT(largest["parameters"], before);
    before = largest["parameters"];
  }
  for (const auto& model : report["capacity"]["models"]) {
    for (const auto& need : model["needs"]) {
      EXPECT_EQ(need["fits"], need["bytes"] <= memory) << model["name"];
    }
  }
}

TEST_F(Doctor, HasOneLineForEachThingThatIsMissing) {
  const auto report =
      json("SCHMIDT_INSTRUCTION_SET=portable PATH=/nowhere HF_HOME=" + tmp.path().string());
  EXPECT_EQ(report["processor"]["instruction_sets"][0], "portable");
  const std::set<std::string> named = report["processor"]["instruction_sets"];
  EXPECT_EQ(named.size(), report["processor"]["instruction_sets"].size()) << "named twice";
  EXPECT_TRUE(lacks(report, "AVX2 and FMA"));
  EXPECT_FALSE(lacks(report, "AVX-512"));  // what is more goes without saying
  EXPECT_TRUE(lacks(report, "hf on PATH"));
  EXPECT_EQ(report["hub_cache"]["models"], 0);

  const Ran text = run("SCHMIDT_INSTRUCTION_SET=portable PATH=/nowhere", "");
  EXPECT_EQ(text.code, 0) << text.err;
  size_t lines = 0;
  for (const std::string& line : text.lines()) lines += line.starts_with("missing ") ? 1 : 0;
  EXPECT_EQ(lines, report["missing"].size()) << text.out;
}

TEST_F(Doctor, RefusesAFolderThatIsNotThere) {
  const Ran ran = run_in_shell(tmp, "$S doctor /no/such/folder");
  EXPECT_EQ(ran.code, 2);
  EXPECT_EQ(ran.err, "error: cannot read /no/such/folder: No such file or directory\n");
}

}  // namespace
}  // namespace schmidt::test
