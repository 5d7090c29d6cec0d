// Writes two tiny models of other weights into a folder, "original" and "other", for
// chat_page_in_browser.py.

#include <filesystem>

#include "tests/support/tiny_model.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const std::filesystem::path folder = argv[1];
  uint64_t seed = 0;
  for (const char* name : {"original", "other"}) {
    schmidt::test::write_model(schmidt::test::make_tiny_model(2, ++seed), folder / name);
    schmidt::test::write_byte_tokenizer(folder / name);
  }
}
