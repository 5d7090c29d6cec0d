#include <optional>

#include <fmt/format.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/io/json.h"
#include "schmidt/io/safetensors.h"
#include "schmidt/io/safetensors_layout.h"

namespace schmidt::io {
namespace {

struct Shard {
  size_t begin = 0;  // of the specs
  size_t end = 0;
  std::string file_name;
};

// Fills one shard after another; a tensor over the limit gets one of its own.
std::vector<Shard> split(const std::vector<TensorSpec>& specs, uint64_t max_bytes) {
  std::vector<Shard> shards(1);
  uint64_t bytes = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const uint64_t next = tensor_bytes(specs[i]);
    if (i > shards.back().begin && (bytes > max_bytes || next > max_bytes - bytes)) {
      shards.push_back({i, i, ""});
      bytes = 0;
    }
    bytes += next;
    shards.back().end = i + 1;
  }
  shards.front().file_name = "model.safetensors";
  for (size_t i = 0; shards.size() > 1 && i < shards.size(); ++i) {
    shards[i].file_name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
  }
  return shards;
}

/// Those of one file.
std::vector<TensorSpec> specs_in(const Shard& shard, const std::vector<TensorSpec>& specs) {
  const auto first = specs.begin();
  return {first + static_cast<std::ptrdiff_t>(shard.begin),
          first + static_cast<std::ptrdiff_t>(shard.end)};
}

}  // namespace

uint64_t written_bytes(const std::vector<TensorSpec>& specs) {
  uint64_t bytes = 0;
  for (const Shard& shard : split(specs, kMaxShardBytes)) {
    const SafetensorsLayout layout = lay_out(specs_in(shard, specs), kModelMetadata);
    bytes += layout.head.size() + layout.data_bytes;
  }
  return bytes;
}

struct SafetensorsWriter::Impl {
  std::filesystem::path folder;
  std::vector<TensorSpec> specs;
  std::map<std::string, std::string> metadata;
  std::vector<Shard> shards;
  size_t shard = 0;  // being written
  size_t next = 0;   // of the specs
  bool finished = false;
  SafetensorsLayout layout;  // of the current shard
  std::optional<AtomicFile> file;

  void open_shard() {
    const Shard& s = shards[shard];
    layout = lay_out(specs_in(s, specs), metadata);
    file.emplace(folder / s.file_name);
    file->write(layout.head);
  }

  void close_shard() {
    file->commit();
    file.reset();
    ++shard;
  }

  void write_index() const {
    uint64_t total = 0;
    nlohmann::json weight_map = nlohmann::json::object();
    for (const Shard& s : shards) {
      for (size_t i = s.begin; i < s.end; ++i) {
        weight_map[specs[i].name] = s.file_name;
        total += tensor_bytes(specs[i]);
      }
    }
    const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    write_file_atomically(folder / "model.safetensors.index.json", json_text(index, 2) + "\n");
  }
};

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder, std::vector<TensorSpec> specs,
                                     std::map<std::string, std::string> metadata,
                                     uint64_t max_shard_bytes)
    : impl_(std::make_unique<Impl>()) {
  lay_out(specs, metadata);  // names are unique over all shards, or nothing is written
  impl_->shards = split(specs, max_shard_bytes);
  impl_->folder = std::move(folder);
  impl_->specs = std::move(specs);
  impl_->metadata = std::move(metadata);
  impl_->open_shard();
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const std::string& name, const torch::Tensor& tensor) {
  Impl& w = *impl_;
  TORCH_CHECK_VALUE(w.next < w.specs.size(), "[safetensors] expected no further tensor, got ",
                    name);
  const TensorSpec& spec = w.specs[w.next];
  TORCH_CHECK_VALUE(tensor.defined() && name == spec.name && tensor.scalar_type() == spec.dtype &&
                        tensor.sizes() == c10::IntArrayRef(spec.shape),
                    "[safetensors] expected ", spec.name, " ", c10::IntArrayRef(spec.shape), " ",
                    c10::toString(spec.dtype), ", got ", name, " ",
                    tensor.defined() ? tensor.sizes() : c10::IntArrayRef(), " ",
                    tensor.defined() ? c10::toString(tensor.scalar_type()) : "undefined");
  if (!w.file) w.open_shard();
  const torch::Tensor data = tensor.cpu().contiguous();
  const Shard& shard = w.shards[w.shard];
  w.file->write_at(w.layout.offsets[w.next - shard.begin], data.const_data_ptr(), data.nbytes());
  if (++w.next == shard.end) w.close_shard();
}

void SafetensorsWriter::finish() {
  Impl& w = *impl_;
  TORCH_CHECK_VALUE(w.next == w.specs.size(), "[safetensors] expected ", w.specs.size(),
                    " tensors, got ", w.next, "; the next is ",
                    w.next < w.specs.size() ? w.specs[w.next].name : "");
  if (w.finished) return;
  if (w.file) w.close_shard();  // no tensors at all
  if (w.shards.size() > 1) w.write_index();
  w.finished = true;
}

}  // namespace schmidt::io
