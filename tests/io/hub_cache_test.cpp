#include "schmidt/io/hub_cache.h"

#include <cstdlib>
#include <optional>

#include <gtest/gtest.h>

#include "schmidt/base/format_error.h"
#include "schmidt/io/checkpoint.h"

#include "tests/io/expect_error.h"
#include "tests/io/file_bytes.h"
#include "tests/support/support.h"

namespace schmidt::io {
namespace {

namespace fs = std::filesystem;
using test::expect_error;

constexpr const char* kVariables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                      "XDG_CACHE_HOME", "HOME"};
const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kOther = "76543210fedcba9876543210fedcba9876543210";

/// A cache as huggingface_hub lays it out, of which the environment speaks while a test runs.
class HubCache : public ::testing::Test {
 protected:
  HubCache() {
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      before_.emplace_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      ::unsetenv(name);
    }
    ::setenv("HF_HUB_CACHE", (tmp / "hub").c_str(), 1);
  }
  ~HubCache() override {
    for (size_t i = 0; i < before_.size(); ++i) {
      if (before_[i]) {
        ::setenv(kVariables[i], before_[i]->c_str(), 1);
      } else {
        ::unsetenv(kVariables[i]);
      }
    }
  }

  fs::path repository() const { return tmp / "hub" / "models--org--small-1.0"; }
  fs::path snapshot(const std::string& commit = kCommit) const {
    return repository() / "snapshots" / commit;
  }
  void add_ref(const std::string& revision, const std::string& content) const {
    fs::create_directories((repository() / "refs" / revision).parent_path());
    test::write_file(repository() / "refs" / revision, content);
  }
  void add_file(const std::string& name, const std::string& content,
                const std::string& commit = kCommit) const {
    fs::create_directories(repository() / "blobs");
    fs::create_directories(snapshot(commit));
    const std::string hash = "blob-" + name;
    test::write_file(repository() / "blobs" / hash, content);
    fs::create_symlink(fs::path("../../blobs") / hash, snapshot(commit) / name);
  }
  /// Of a model that `Checkpoint` opens.
  void add_model(const std::string& commit = kCommit) const {
    add_file("config.json", R"({"tie_word_embeddings": true})", commit);
    add_file("model.safetensors",
             test::safetensors(R"({"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16),
             commit);
  }

  test::TemporaryFolder tmp;

 private:
  std::vector<std::optional<std::string>> before_;
};

TEST(HubModel, IsAnIdByTheHubsOwnRule) {
  const auto model = parse_hub_model("HuggingFaceTB/SmolLM2-135M_x.5@refs/pr/1");
  ASSERT_TRUE(model);
  EXPECT_EQ(model->repository, "HuggingFaceTB/SmolLM2-135M_x.5");
  EXPECT_EQ(model->revision, "refs/pr/1");
  EXPECT_EQ(parse_hub_model("a/b")->revision, "main");

  for (const char* name :
       {"",      "/",      "a",        "a/",        "/a",         "./a",      "../a",   "a/..",
        "a/.",   "a/../b", "a/b/c",    "a//b",      "a/b/",       "-a/b",     "a/b-",   ".a/b",
        "a/.b",  "a/b.",   "a/b--c",   "a--b/c",    "a/b..c",     "a/b c",    "a/b\\c", "a/b@",
        "a/b@.", "a/b@..", "a/b@../x", "a/b@/etc",  "a/b@x/../y", "a/b@x//y", "a/b@x/", "a/b@x@y",
        "a@x/b", "~/b",    "a/b\n",    "a/\xC3\xA9"}) {
    EXPECT_FALSE(parse_hub_model(name)) << name;
  }
  EXPECT_FALSE(parse_hub_model(std::string("a/b\0c", 5)));
  EXPECT_FALSE(parse_hub_model("a/" + std::string(97, 'b')));
}

TEST_F(HubCache, IsWhereTheEnvironmentSays) {
  ::setenv("HOME", "/home/me", 1);
  EXPECT_EQ(hub_cache(), tmp / "hub");
  ::setenv("HUGGINGFACE_HUB_CACHE", "/older", 1);
  EXPECT_EQ(hub_cache(), tmp / "hub");
  ::setenv("HF_HUB_CACHE", "", 1);  // as if it were not set
  EXPECT_EQ(hub_cache(), "/older");
  ::unsetenv("HUGGINGFACE_HUB_CACHE");
  EXPECT_EQ(hub_cache(), "/home/me/.cache/huggingface/hub");
  ::setenv("XDG_CACHE_HOME", "/caches", 1);
  EXPECT_EQ(hub_cache(), "/caches/huggingface/hub");
  ::setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(hub_cache(), "/home/me/hf/hub");
  for (const char* name : kVariables) ::unsetenv(name);
  EXPECT_EQ(hub_cache(), std::nullopt);
}

TEST_F(HubCache, FindsAModelByItsId) {
  add_model();
  add_ref("main", kCommit);
  EXPECT_EQ(locate_model("org/small-1.0"), snapshot());
  EXPECT_EQ(locate_model("org/small-1.0@main"), snapshot());
  EXPECT_EQ(locate_model("org/small-1.0@" + kCommit), snapshot());

  const Checkpoint checkpoint = Checkpoint::open("org/small-1.0");
  EXPECT_EQ(checkpoint.path(), snapshot());
  EXPECT_EQ(checkpoint.tensors().size(), 1U);
  EXPECT_TRUE(checkpoint.notes().empty()) << checkpoint.notes().front();  // links stay inside
}

TEST_F(HubCache, FindsEachRevision) {
  add_model();
  add_ref("main", kCommit + "\n");
  add_ref("refs/pr/1", kOther);
  fs::create_directories(snapshot(kOther));
  test::write_file(snapshot(kOther) / "config.json", "{}");
  EXPECT_EQ(locate_model("org/small-1.0@refs/pr/1"), snapshot(kOther));
  EXPECT_EQ(locate_model("org/small-1.0@" + kOther), snapshot(kOther));
  expect_error<c10::ValueError>([&] { locate_model("org/small-1.0@v2"); },
                                "\"hf download org/small-1.0 --revision v2\" fetches it");
}

TEST_F(HubCache, TakesThePathThatExistsFirst) {
  add_model();
  add_ref("main", kCommit);
  const fs::path here = fs::current_path();
  fs::create_directories(tmp / "org/small-1.0");
  fs::current_path(tmp.path());
  const fs::path found = locate_model("org/small-1.0");
  fs::current_path(here);
  EXPECT_EQ(found, "org/small-1.0");
}

TEST_F(HubCache, LeavesWhatIsNoIdAlone) {
  for (const char* name : {"model", "./org/small-1.0", "/org/small-1.0", "a/b/c"}) {
    EXPECT_EQ(locate_model(name), name);
  }
}

TEST_F(HubCache, SaysWhichCommandDownloadsAModel) {
  const auto expect_absent = [](const std::string& name, const std::string& part) {
    expect_error<c10::ValueError>([&] { Checkpoint::open(name); }, part);
  };
  const std::string fetches = "which does not exist; \"hf download org/small-1.0\" fetches it";
  expect_absent("org/small-1.0", fetches);
  expect_absent("org/small-1.0", (tmp / "hub").string() + ")");
  for (const char* file : {"models/small.gguf", "models/small.safetensors"}) {
    try {
      Checkpoint::open(file);
      ADD_FAILURE() << "opened " << file;
    } catch (const c10::ValueError& error) {
      const std::string said = error.what_without_backtrace();
      EXPECT_NE(said.find("which does not exist"), std::string::npos) << said;
      EXPECT_EQ(said.find("hf download"), std::string::npos) << said;
    }
  }
  ::unsetenv("HF_HUB_CACHE");  // and no HOME
  expect_absent("org/small-1.0", fetches);
  ::setenv("HF_HUB_CACHE", (tmp / "hub").c_str(), 1);
  // Downloaded as another revision: there is no refs/main.
  add_model();
  expect_absent("org/small-1.0", "the cache has org/small-1.0 at " + kCommit);
  // Its snapshot was removed.
  add_ref("main", kOther);
  expect_absent("org/small-1.0", "\"hf download org/small-1.0\" fetches it");
}

TEST_F(HubCache, NeverLeavesTheCache) {
  add_model();
  for (const char* hostile :
       {"..", "../../../../etc", "/etc", "", "main", "0123456789abcdef0123456789abcdef0123456/"}) {
    add_ref("main", hostile);
    expect_error<FormatError>([&] { locate_model("org/small-1.0"); },
                              "refs/main: expected a commit of 40 digits");
  }
}

TEST_F(HubCache, KnowsAnUnfinishedDownload) {
  const auto expect_unfinished = [](const std::string& file) {
    expect_error<FormatError>([&] { locate_model("org/small-1.0"); },
                              file +
                                  ": expected a finished download, found none; \"hf download "
                                  "org/small-1.0\" goes on with it");
  };
  add_ref("main", kCommit);
  add_file("config.json", "{}");
  test::write_file(repository() / "blobs" / "abc.incomplete", "half");
  expect_unfinished("its weights");
  // The file of weights that is there as a link alone.
  fs::create_symlink("../../blobs/gone", snapshot() / "model.safetensors");
  expect_unfinished("model.safetensors");
  fs::remove(snapshot() / "model.safetensors");
  // A shard that has not come.
  add_file("model.safetensors.index.json",
           R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})");
  add_file("1.safetensors", "x");
  expect_unfinished("2.safetensors");
  add_file("2.safetensors", "x");
  EXPECT_EQ(locate_model("org/small-1.0"), snapshot());  // whatever else was not fetched
}

TEST_F(HubCache, OpensTheOnlyGgufFile) {
  add_ref("main", kCommit);
  add_file("small.gguf", test::gguf({}, {}, 0));
  EXPECT_EQ(locate_model("org/small-1.0"), snapshot() / "small.gguf");
  add_file("large-00001-of-00002.gguf", "x");
  EXPECT_EQ(locate_model("org/small-1.0"), snapshot());  // which of them is the user's to say
  fs::remove(snapshot() / "small.gguf");
  add_file("large-00002-of-00002.gguf", "x");
  EXPECT_EQ(locate_model("org/small-1.0"), snapshot() / "large-00001-of-00002.gguf");
}

TEST(ModelName, IsTheHubsInItsCache) {
  EXPECT_EQ(model_name("/x/models--org--small/snapshots/abc"), "org/small");
  EXPECT_EQ(model_name("/x/models--org--small/snapshots/abc/"), "org/small");
  EXPECT_EQ(model_name("/x/models--org--small/snapshots/abc/m.gguf"), "org/small");
  EXPECT_EQ(model_name("/x/models--small/snapshots/abc"), "abc");
  EXPECT_EQ(model_name("/x/small/"), "small");
  EXPECT_EQ(model_name("small.gguf"), "small.gguf");
  EXPECT_EQ(hub_name("/x/snapshots/abc"), std::nullopt);
}

}  // namespace
}  // namespace schmidt::io
