// The jobs of examples/cluster as Slurm would run them, with mpirun in srun's place.
#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "tests/support/support.h"
#include "tests/support/tiny_model.h"

namespace schmidt {
namespace {

#ifdef SCHMIDT_MPIRUN
namespace fs = std::filesystem;

class ClusterTest : public ::testing::Test {
 protected:
  ClusterTest() {
    test::TinyModel tiny = test::make_tiny_model();
    tiny.config["max_position_embeddings"] = 512;
    test::write_model(tiny, tmp / "m");
    test::write_byte_tokenizer(tmp / "m");
    std::string text, boolq;
    for (int i = 0; i < 400; ++i) {
      text += fmt::format("line {} of a text\n", i * i);
      boolq += fmt::format(R"({{"question": "is {0}", "passage": "{0} it is.", "answer": {1}}})"
                           "\n",
                           i, i % 3 == 0);
    }
    test::write_file(tmp / "text", text);
    fs::create_directories(tmp / "data/boolq");
    test::write_file(tmp / "data/boolq/dev.jsonl", boolq);
    // srun's first argument is how it starts MPI.
    write_command("srun", fmt::format("shift\nexec {} -n 2 \"$@\"\n", SCHMIDT_MPIRUN));
    write_command("schmidt", fmt::format("exec {} \"$@\"\n", SCHMIDT_PROGRAM));
    write_command("scontrol", "echo \"$@\" >>" + (tmp / "requeued").string() + "\n");
  }

  void write_command(const std::string& name, const std::string& script) {
    fs::create_directories(tmp / "bin");
    test::write_file(tmp / "bin" / name, "#!/bin/bash\n" + script);
    fs::permissions(tmp / "bin" / name, fs::perms::owner_all);
  }

  int run(const std::string& job, const std::string& variables = "") {
    const int status = std::system(
        fmt::format("cd {0} && PATH={0}/bin:$PATH OMP_NUM_THREADS=1 SLURM_JOB_ID=7 DEVICE=cpu "
                    "MODEL=m DATA=text WORK=work BENCHMARKS=data TASKS=boolq BATCH=2 CONTEXT=64 "
                    "TOKENS=2k STAGES=2 CALIBRATION_TOKENS=1024 {1} timeout 120 bash "
                    "{2}/examples/cluster/{3}.sbatch >log 2>&1",
                    tmp.path().string(), variables, test::source_dir().string(), job)
            .c_str());
    return WEXITSTATUS(status);
  }

  test::TemporaryFolder tmp;
};

TEST_F(ClusterTest, TheJobsCompressHealAndEvaluate) {
  fs::create_directory(tmp / "work");
  ASSERT_EQ(run("compress"), 0) << test::read_file(tmp / "log");
  ASSERT_EQ(run("heal"), 0) << test::read_file(tmp / "log");
  ASSERT_EQ(run("evaluate"), 0) << test::read_file(tmp / "log");
  const auto scores = nlohmann::json::parse(test::read_file(tmp / "work/scores.json"));
  EXPECT_EQ(scores["samples"]["boolq"].size(), 400u);
  EXPECT_TRUE(fs::exists(tmp / "work/healed/model.safetensors"));
  EXPECT_FALSE(fs::exists(tmp / "requeued"));
}

TEST_F(ClusterTest, AHealingThatRunsOutOfTimeIsQueuedAgain) {
  fs::create_directory(tmp / "work");
  ASSERT_EQ(run("compress"), 0) << test::read_file(tmp / "log");
  write_command("srun", "exit 143\n");
  EXPECT_EQ(run("heal"), 0);
  EXPECT_EQ(test::read_file(tmp / "requeued"), "requeue 7\n");
  write_command("srun", "exit 3\n");
  EXPECT_EQ(run("heal"), 3);
  EXPECT_EQ(test::read_file(tmp / "requeued"), "requeue 7\n");
}
#endif

}  // namespace
}  // namespace schmidt
