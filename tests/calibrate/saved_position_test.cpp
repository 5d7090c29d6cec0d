#include "schmidt/calibrate/saved_position.h"

#include <filesystem>
#include <thread>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"

#include "tests/support/support.h"

namespace schmidt::calibrate {
namespace {

namespace fs = std::filesystem;

class SavedPositionTest : public testing::Test {
 protected:
  // Memory that reaches for one stream: the others are files.
  SavedPositionTest()
      : space(TextBatches::of(torch::zeros({4, 5}, torch::kInt64), 2), tmp / "s", torch::kFloat32,
              torch::kCPU, 4 * 5 * 3 * 4) {}

  ActivationStream filled(const std::string& name, double value) const {
    ActivationStream stream = space.make(name, 3);
    for (const int64_t b : space.batches().own) stream.write(b, torch::full({2, 5, 3}, value));
    return stream;
  }

  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(tmp / "s")) {
      names.push_back(entry.path().filename());
    }
    std::ranges::sort(names);
    return names;
  }

  test::TemporaryFolder tmp;
  ActivationSpace space;
};

TEST_F(SavedPositionTest, ALaterRunGoesOnFromTheLastPlace) {
  {
    SavedPosition position(tmp / "s", "at", {}, 1e9);
    EXPECT_EQ(position.place(), std::nullopt);
    ActivationStream a = filled("a.1", 1), b = filled("b.1", 2);
    position.save(1, {&a, &b});
    a = filled("a.4", 4), b = filled("b.4", 5);
    position.save(4, {&a, &b});
    EXPECT_EQ(position.place(), 4);
    const ActivationStream later = filled("a.5", 6);  // never saved
  }
  const SavedPosition position(tmp / "s", "at", {}, 1e9);
  EXPECT_EQ(position.place(), 4);
  EXPECT_EQ(files(), (std::vector<std::string>{"a.4", "at.json", "b.4"}));
  EXPECT_EQ(space.kept("a.4", 3).read(1).sum().item<double>(), 4 * 30);
  EXPECT_EQ(space.kept("b.4", 3).read(0).sum().item<double>(), 5 * 30);
}

TEST_F(SavedPositionTest, AKillInTheMiddleOfASaveLeavesThePlaceBefore) {
  {
    SavedPosition position(tmp / "s", "at", {}, 1e9);
    ActivationStream a = filled("a.1", 1);
    position.save(1, {&a});
    ActivationStream b = filled("a.2", 2);
    b.keep();  // and then the end
  }
  EXPECT_EQ(SavedPosition(tmp / "s", "at", {}, 1e9).place(), 1);
  EXPECT_EQ(space.kept("a.1", 3).read(0).sum().item<double>(), 30);
}

TEST_F(SavedPositionTest, StreamsOfThePlaceBeforeThatAreSavedAgainStay) {
  SavedPosition position(tmp / "s", "at", {}, 1e9);
  ActivationStream a = filled("a", 1), b = filled("b", 2);
  position.save(1, {&a});
  position.save(2, {&a, &b});
  EXPECT_EQ(files(), (std::vector<std::string>{"a", "at.json", "b"}));
}

TEST_F(SavedPositionTest, IsDueAfterWorkAlone) {
  SavedPosition never(tmp / "s", "never", {}, 1e9), always(tmp / "s", "always", {}, 0.0);
  SavedPosition position(tmp / "s", "at", {}, 0.02);
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(position.due());
  {
    const SavedPosition::Work work(position);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  EXPECT_TRUE(position.due());
  EXPECT_TRUE(always.due());
  EXPECT_FALSE(never.due());
  ActivationStream a = filled("a", 1);
  position.save(1, {&a});
  EXPECT_FALSE(position.due());
}

TEST_F(SavedPositionTest, TheFirstWorkersClockCounts) {
  // Each worker's numbers are summed: here the others add nothing.
  Workers first{.rank = 0, .size = 2, .sum = [](const torch::Tensor&) {}, .wait = [] {}};
  SavedPosition position(tmp / "s", "at", first, 0.0);
  EXPECT_TRUE(position.due());
  Workers second = first;
  second.rank = 1;
  second.sum = [](const torch::Tensor& x) { x.fill_(-1.0); };
  EXPECT_FALSE(SavedPosition(tmp / "s", "at", second, 0.0).due());
}

}  // namespace
}  // namespace schmidt::calibrate
