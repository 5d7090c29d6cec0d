#include "schmidt/cli/loading.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/text/utf8.h"

namespace schmidt::cli {

void print_notes(const std::vector<std::string>& notes, const CommonOptions& options) {
  static std::set<std::string> printed;  // a model may be opened twice, as its own reference
  if (options.quiet || parallel::rank() != 0) return;
  for (std::string note : notes) {
    // Names of files are a stranger's: one note stays one line.
    std::ranges::replace_if(
        note, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    if (printed.insert(note).second) fmt::print(stderr, "note: {}\n", note);
  }
}

io::Checkpoint open_checkpoint(const std::string& path, const CommonOptions& options) {
  const io::Checkpoint checkpoint = io::Checkpoint::open(path);
  print_notes(checkpoint.notes(), options);
  return checkpoint;
}

model::Model load_model(const io::Checkpoint& checkpoint, const CommonOptions& options,
                        kernels::Activations activations) {
  return model::Model::load(checkpoint, {.dtype = options.torch_dtype(torch::kFloat32),
                                         .device = options.torch_device(),
                                         .activations = activations});
}

void add_exact_flag(CLI::App& verb, kernels::Activations& activations) {
  verb.add_flag_callback(
      "--exact", [&activations] { activations = kernels::Activations::kExact; },
      "Products with integers of few bits in float32, without rounding what they read to int8");
}

text::Tokenizer load_tokenizer(const std::filesystem::path& path, const CommonOptions& options) {
  text::Tokenizer tokenizer = text::Tokenizer::load(path);
  print_notes(tokenizer.notes(), options);
  return tokenizer;
}

std::string read_text(const std::string& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) throw SystemError("cannot read", path, EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  return std::string(text::utf8_text(bytes, path));
}

std::string read_stdin() {
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  return std::string(text::utf8_text(bytes, "standard input"));
}

}  // namespace schmidt::cli
