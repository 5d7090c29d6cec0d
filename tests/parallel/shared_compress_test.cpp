#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <ATen/ops/randint.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json.h"
#include "schmidt/model/model.h"

#include "tests/parallel/rank_process.h"
#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

#ifdef SCHMIDT_MPIRUN

class SharedCompressTest : public ::testing::Test {
 protected:
  SharedCompressTest() {
    test::write_model(test::make_tiny_model(), tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    std::string text;
    for (int i = 0; i < 400; ++i) text += fmt::format("line {} of a text\n", i * i);
    test::write_file(tmp / "text", text);
  }

  int compress(const std::string& launcher, const std::string& out, const std::string& how) {
    const int status = std::system(
        fmt::format("OMP_NUM_THREADS=1 timeout 60 {} {} compress {} -o {} --keep 0.8 --json {} "
                    ">{} 2>&1",
                    launcher, SCHMIDT_PROGRAM, (tmp / "m").string(), (tmp / out).string(), how,
                    (tmp / "log").string())
            .c_str());
    return WEXITSTATUS(status);
  }

  std::string calibrated(const std::string& more) const {
    return fmt::format("--calibration {} --calibration-tokens 2048 --calibration-context 64 {}",
                       (tmp / "text").string(), more);
  }

  torch::Tensor logits(const std::string& out, const torch::Tensor& ids) const {
    return model::Model::load(io::Checkpoint::open(tmp / out)).forward(ids);
  }

  const std::string three = SCHMIDT_MPIRUN " -n 3";
  test::TemporaryFolder tmp;
};

TEST_F(SharedCompressTest, LayersOfThreeRanksAreTheBytesOfOne) {
  const std::string how = "--method tt-svd --ignore none";
  ASSERT_EQ(compress("", "one", how), 0) << test::read_file(tmp / "log");
  ASSERT_EQ(compress(three, "three", how), 0) << test::read_file(tmp / "log");
  for (const char* file : {"model.safetensors", "config.json"}) {
    EXPECT_EQ(test::read_file(tmp / "one" / file), test::read_file(tmp / "three" / file)) << file;
  }
  EXPECT_FALSE(std::filesystem::exists(tmp / "three.partial"));
}

TEST_F(SharedCompressTest, WindowsOfThreeRanksGiveTheModelOfOneToRounding) {
  const torch::Tensor ids = at::randint(256, {2, 40}, at::kLong);
  // Decompositions follow their input; sweeps that end before they have converged enlarge
  // what rounding changed in it.
  const std::pair<const char*, double> methods[] = {
      {"", 1e-3}, {"--method whitened --share-inputs", 1e-3}, {"--method auto", 2e-2}};
  for (const auto& [how, tolerance] : methods) {
    const std::string all = calibrated(how);
    ASSERT_EQ(compress("", "one", all + " --force"), 0) << test::read_file(tmp / "log");
    ASSERT_EQ(compress(three, "three", all + " --force"), 0) << test::read_file(tmp / "log");
    const torch::Tensor one = logits("one", ids), three_ranks = logits("three", ids);
    EXPECT_LT((one - three_ranks).norm().item<double>(), tolerance * one.norm().item<double>())
        << how;
    const auto layers = [&](const char* out) {
      const auto config = io::Checkpoint::open(tmp / out).config();
      return nlohmann::json(config.at("compression_config").at("layers"));
    };
    const nlohmann::json expected = layers("one"), found = layers("three");
    for (const auto& [name, form] : expected.items()) {
      EXPECT_EQ(form.value("bonds", nlohmann::json()),
                found.at(name).value("bonds", nlohmann::json()))
          << name;
    }
    EXPECT_FALSE(std::filesystem::exists(tmp / "three.statistics"));
  }
}

TEST_F(SharedCompressTest, AKilledRankEndsAllAndOthersGoOn) {
  const std::string how = calibrated("--method auto");
  ASSERT_EQ(compress("", "whole", how), 0) << test::read_file(tmp / "log");
  const auto a_layer_is_done = [&] {
    std::error_code none;
    const std::filesystem::directory_iterator files(tmp / "cut.partial/layers", none);
    return std::ranges::any_of(begin(files), end(files), [](const auto& entry) {
      return entry.path().extension() == ".json";
    });
  };
  const auto code = test::exit_code_after(
      SIGKILL, 1, (tmp / "cut").string(), [&] { return compress(three, "cut", how); },
      a_layer_is_done);
  ASSERT_TRUE(code) << test::read_file(tmp / "log");
  EXPECT_NE(*code, 0);
  EXPECT_FALSE(std::filesystem::exists(tmp / "cut"));
  ASSERT_EQ(compress(SCHMIDT_MPIRUN " -n 2", "cut", how), 0) << test::read_file(tmp / "log");
  const torch::Tensor ids = at::randint(256, {2, 40}, at::kLong);
  const torch::Tensor whole = logits("whole", ids);
  EXPECT_LT((whole - logits("cut", ids)).norm().item<double>(), 2e-2 * whole.norm().item<double>());
}

TEST_F(SharedCompressTest, AMistakeEndsEveryRank) {
  EXPECT_EQ(compress(three, "bad", "--layers no_such_layer"), 2) << test::read_file(tmp / "log");
  EXPECT_FALSE(std::filesystem::exists(tmp / "bad"));
}

#endif

}  // namespace
}  // namespace schmidt
