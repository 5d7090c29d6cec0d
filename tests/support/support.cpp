#include "tests/support/support.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <gtest/gtest.h>

namespace schmidt::test {
namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "schmidt_test.XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << "cannot read " << path;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  ASSERT_TRUE(out.flush()) << "cannot write " << path;
}

fs::path source_dir() { return SCHMIDT_SOURCE_DIR; }
fs::path oracle_dir() { return fs::path(SCHMIDT_BINARY_DIR) / "oracles"; }
fs::path smollm2_path() { return source_dir() / "models" / "smollm2.gguf"; }
fs::path data_dir() { return source_dir() / ".." / "shared" / "data"; }

}  // namespace schmidt::test
