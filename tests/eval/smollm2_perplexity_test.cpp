#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "schmidt/eval/perplexity.h"
#include "schmidt/io/json.h"
#include "schmidt/text/tokenizer.h"

#include "tests/support/support.h"

namespace schmidt::eval {
namespace {

constexpr int64_t kContext = 512;

// The first `windows` windows of a text, ours and transformers'.
class SmolLm2Perplexity : public ::testing::TestWithParam<const char*> {
 protected:
  void compare(const std::string& oracle, size_t windows) {
    const std::string name = GetParam();
    SCHMIDT_REQUIRE_PATH(test::smollm2_path());
    SCHMIDT_REQUIRE_PATH(test::data_dir() / "text" / name);
    const auto truths = io::read_json(test::oracle_dir() / oracle / "smollm2.json");
    ASSERT_TRUE(truths.contains(name));
    const auto nlls = truths.at(name).get<std::vector<double>>();
    ASSERT_EQ(nlls.size(), windows);
    const double expected =
        std::exp(std::accumulate(nlls.begin(), nlls.begin() + windows, 0.0) / windows);

    const auto model = model::Model::load(io::Checkpoint::open(test::smollm2_path()));
    const auto ids = text::Tokenizer::load(test::smollm2_path())
                         .encode(test::read_file(test::data_dir() / "text" / name));
    const Evaluation result = evaluate_text(
        model, nullptr, ids,
        {.context = kContext, .max_tokens = kContext * static_cast<int64_t>(windows)});
    EXPECT_NEAR(result.model.perplexity / expected, 1.0, 1e-3);
    RecordProperty("perplexity", std::to_string(result.model.perplexity));
  }
};

TEST_P(SmolLm2Perplexity, IsTransformersWithinATenthOfAPercent) { compare("eval", 2); }

// Run with --gtest_also_run_disabled_tests by the target of slow tests.
TEST_P(SmolLm2Perplexity, DISABLED_OverAll) { compare("whole_eval", 24); }

INSTANTIATE_TEST_SUITE_P(Texts, SmolLm2Perplexity,
                         ::testing::Values("wiki.test.raw", "chatml.valid.txt"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(0, name.find('.'));
                         });

}  // namespace
}  // namespace schmidt::eval
