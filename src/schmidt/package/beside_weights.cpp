#include "schmidt/package/beside_weights.h"

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/hf_folder.h"
#include "schmidt/io/json.h"
#include "schmidt/package/model_card.h"
#include "schmidt/package/quantization_config.h"
#include "schmidt/package/remote_code.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::package {
namespace {

namespace fs = std::filesystem;

// Whether the user would publish with a new model what a link has led to.
bool is_outside(const io::Checkpoint& checkpoint, const std::string& name) {
  if (checkpoint.is_gguf()) return false;
  const auto file = io::find_in_folder(checkpoint.path(), name);
  return file && file->is_outside;
}

void copy_tokenizer(const io::Checkpoint& checkpoint, const fs::path& folder) {
  const fs::path& from = checkpoint.path();
  const auto has = [&](const char* name) { return path_exists(from / name); };
  if (checkpoint.is_gguf() || has("tokenizer.json") || has("tokenizer.model") ||
      (has("vocab.json") && has("merges.txt"))) {
    text::Tokenizer::load(from).save(folder);
  }
}

}  // namespace

ModelSummary write_beside_weights(const io::Checkpoint& original, nlohmann::json config,
                                  const fs::path& folder) {
  const bool plain = !config.contains("compression_config");
  if (plain) {
    config.erase("auto_map");
  } else if (const auto foreign = quantization_config(config, folder / "config.json")) {
    config["quantization_config"] = *foreign;
    config.erase("auto_map");
  } else {
    add_remote_code(folder, config);
  }
  write_file_atomically(folder / "config.json", io::json_text(config, 2) + "\n");
  if (!original.generation_config().empty() && !is_outside(original, "generation_config.json")) {
    write_file_atomically(folder / "generation_config.json",
                          io::json_text(original.generation_config(), 2) + "\n");
  }
  copy_tokenizer(original, folder);
  ModelSummary summary = summarize(io::Checkpoint::open(folder));
  write_file_atomically(folder / "README.md",
                        plain ? plain_card(original, summary) : model_card(original, summary));
  return summary;
}

}  // namespace schmidt::package
