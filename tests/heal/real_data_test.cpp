// The conversations and the text that the project heals with, in SmolLM2's tokens.
#include <gtest/gtest.h>

#include "schmidt/heal/stream.h"

#include "tests/support/support.h"

namespace schmidt::heal {
namespace {

// Measured over 400 rows of 512: 1.8 % for the conversations, 1.3 % for both files.
TEST(RealData, PaddingIsBelowThreePercent) {
  const auto chat = test::data_dir() / "chat" / "train.jsonl";
  const auto wiki = test::data_dir() / "text" / "wiki.train.first5k.raw";
  SCHMIDT_REQUIRE_PATH(chat);
  SCHMIDT_REQUIRE_PATH(wiki);
  SCHMIDT_REQUIRE_PATH(test::smollm2_path());
  const text::Tokenizer smollm2 = text::Tokenizer::load(test::smollm2_path());
  for (const std::vector<Source>& sources :
       {std::vector<Source>{{chat}}, std::vector<Source>{{chat, 0.75}, {wiki, 0.25}}}) {
    Stream stream(sources, smollm2, "llama", {.loss_on = LossOn::kAssistant});
    double trained = 0.0;
    for (int i = 0; i < 100; ++i) trained += static_cast<double>(stream.next(4).trained());
    const auto tokens = static_cast<double>(stream.tokens());
    const double padding = 1.0 - tokens / (400.0 * 512.0);
    const std::string files = std::to_string(sources.size()) + "_files_";
    RecordProperty(files + "padding", std::to_string(padding));
    RecordProperty(files + "trained", std::to_string(trained / tokens));
    EXPECT_LT(padding, 0.03) << files;
    EXPECT_GT(trained / tokens, 0.4) << files;
  }
}

}  // namespace
}  // namespace schmidt::heal
