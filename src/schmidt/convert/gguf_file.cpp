#include "schmidt/convert/gguf_file.h"

#include <algorithm>
#include <functional>
#include <map>
#include <utility>

#include "schmidt/base/format_error.h"
#include "schmidt/convert/dense.h"
#include "schmidt/convert/gguf_metadata.h"
#include "schmidt/convert/gguf_types.h"
#include "schmidt/convert/integer_blocks.h"
#include "schmidt/io/gguf_model.h"
#include "schmidt/io/gguf_names.h"
#include "schmidt/io/gguf_writer.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/io/tensor_data.h"
#include "schmidt/model/quantized_projection.h"
#include "schmidt/text/gguf_keys.h"

namespace schmidt::convert {
namespace {

using Keys = std::map<std::string, io::GgufValue>;

/// A tensor of the model and what becomes of it.
struct ModelPart {
  std::string name;  ///< Hugging Face's
  std::vector<int64_t> shape;
  const quant::Format* format = nullptr;     ///< that it would have alone
  int64_t interleaved_heads = 0;             ///< see io::GgufWeight
  std::function<std::string()> blocks = {};  ///< its rows encoded; none: what the writer gets is
};

/// A tensor of the file: one of the model's, or several one after the other.
struct Planned {
  io::GgufTensorSpec spec;
  double offset = 0.0;  ///< added to what is written
  std::vector<ModelPart> parts;
};

const quant::Format& format_of(torch::ScalarType dtype) {
  return *quant::find_format(dtype == torch::kFloat16    ? "F16"
                             : dtype == torch::kBFloat16 ? "BF16"
                                                         : "F32");
}

/// Which weights' integers stay as they are in a file, its matrices in `type` where that is given.
class IntegerBlocks {
 public:
  IntegerBlocks(const io::Checkpoint& checkpoint, const model::ModelConfig& config,
                const quant::Format* type)
      : model_(checkpoint.path()), names_(gguf_names_of(checkpoint, config)), type_(type) {
    std::map<std::string, size_t> seen;
    for (const StoredGroup& group : stored_groups(config, model_)) {
      if (group.form.value("kind", "") != model::kQuantizedKind.name) continue;
      const auto file = names_.of_file(group.layer.name + ".weight");
      if (!file) continue;
      const quant::Format* format = format_alone(group);
      const auto [at, first] = together_.try_emplace(*file, format);
      if (at->second != format) at->second = nullptr;
      ++seen[*file];
    }
    for (auto& [file, format] : together_) {
      if (seen.at(file) != names_.of_model(file).size()) format = nullptr;
    }
  }

  /// The format of their blocks; null where they do not stay. What the file holds in one tensor
  /// stays together.
  const quant::Format* operator()(const StoredGroup& integers) const {
    const auto file = names_.of_file(integers.layer.name + ".weight");
    const auto found = file ? together_.find(*file) : together_.end();
    return found == together_.end() ? format_alone(integers) : found->second;
  }

 private:
  const quant::Format* format_alone(const StoredGroup& integers) const {
    const quant::Format* blocks =
        block_format_of(model::parse_integer_format(record_of(integers, model_)));
    return type_ == nullptr || type_ == blocks ? blocks : nullptr;
  }

  std::filesystem::path model_;
  io::GgufNames names_;
  const quant::Format* type_;
  std::map<std::string, const quant::Format*> together_;  // by the file's tensor
};

/// What old checkpoints of Llama hold beside their weights and no program reads.
bool is_left_out(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

class Planner {
 public:
  Planner(const io::Checkpoint& checkpoint, const model::ModelConfig& config,
          const std::map<std::string, StoredGroup>& integers, const IntegerBlocks& blocks,
          const quant::Format* type)
      : checkpoint_(checkpoint),
        config_(config),
        architecture_(gguf_architecture_of(config)),
        names_(gguf_names_of(checkpoint, config)),
        type_(type),
        integers_(integers),
        blocks_(blocks),
        of_model_(format_of(dense_dtype(checkpoint))) {}

  /// The file's tensors, in the order in which the last of each one's parts comes.
  std::vector<Planned> plan(const std::vector<io::TensorSpec>& tensors) const {
    struct Begun {
      Planned file;
      std::vector<std::string> members;
      size_t left = 0;  ///< of its parts
    };
    std::map<std::string, Begun> begun;
    std::vector<Planned> planned;
    for (const io::TensorSpec& tensor : tensors) {
      if (is_left_out(tensor.name)) continue;
      const std::string name = name_in_file(tensor.name);
      const auto [at, first] = begun.try_emplace(name);
      auto& [file, members, left] = at->second;
      if (first) {
        members = names_.of_model(name);
        left = members.size();
        file.spec.name = name;
        file.parts.resize(left);
      }
      file.parts[place_of(tensor.name, members)] = part(tensor, name);
      if (--left > 0) continue;
      finish(file);
      planned.push_back(std::move(file));
      begun.erase(at);
    }
    if (!begun.empty()) {
      throw FormatError(checkpoint_.path(), begun.begin()->first,
                        "expected all tensors that GGUF holds as this one, found some of them");
    }
    return planned;
  }

 private:
  std::string name_in_file(const std::string& tensor) const {
    const auto name = names_.of_file(tensor);
    if (!name) {
      throw FormatError(checkpoint_.path(), tensor,
                        "expected a tensor that GGUF has a name for, found this one");
    }
    return *name;
  }

  size_t place_of(const std::string& tensor, const std::vector<std::string>& members) const {
    const auto found = std::ranges::find(members, tensor);
    if (found == members.end()) {
      throw FormatError(checkpoint_.path(), tensor,
                        "expected an expert or a block that the model has, found another");
    }
    return static_cast<size_t>(found - members.begin());
  }

  ModelPart part(const io::TensorSpec& tensor, const std::string& name_in_file) const {
    ModelPart part{tensor.name, tensor.shape, nullptr, interleaved_heads(name_in_file, config_)};
    const auto integers = integers_.find(tensor.name);
    if (is_router(name_in_file)) {
      part.format = quant::find_format("F32");
    } else if (integers != integers_.end()) {
      plan_integers(integers->second, part);
    } else {
      part.format = &gguf_type_for(tensor.name, tensor.shape,
                                   type_ != nullptr ? *type_ : stored(tensor.name));
    }
    return part;
  }

  /// One format for all parts, and their shape together.
  void finish(Planned& file) const {
    const ModelPart& first = file.parts.front();
    const auto same = [&](const ModelPart& p) { return p.format == first.format; };
    file.spec.format = std::ranges::all_of(file.parts, same)
                           ? first.format
                           : &gguf_type_for(first.name, first.shape, of_model_);
    file.spec.shape = first.shape;
    if (file.parts.size() > 1 && names_.row_shares(file.spec.name).empty()) {
      file.spec.shape.insert(file.spec.shape.begin(), static_cast<int64_t>(file.parts.size()));
    } else {
      for (size_t i = 1; i < file.parts.size(); ++i) {
        file.spec.shape.front() += file.parts[i].shape.front();
      }
    }
    if (first.name.ends_with(".shared_expert_gate.weight"))
      file.spec.shape.erase(file.spec.shape.begin());
    if (architecture_.is_shifted(file.spec.name)) file.offset = architecture_.norm_offset;
  }

  /// What a tensor is in, as far as it is in plain numbers, and else what the model is in.
  const quant::Format& stored(const std::string& name) const {
    const auto info = checkpoint_.tensors().find(name);
    if (info == checkpoint_.tensors().end()) return of_model_;
    const quant::Format* format = quant::find_format(info->second.stored_as);
    return format != nullptr ? *format : of_model_;
  }

  void plan_integers(const StoredGroup& group, ModelPart& part) const {
    if (const quant::Format* blocks = blocks_(group)) {
      part.format = blocks;
      part.blocks = [checkpoint = checkpoint_, group] {
        const model::Weights weights(checkpoint, {.dtype = torch::kFloat32});
        const model::LayerSpec& layer = group.layer;
        const model::QuantizedMatrix matrix =
            model::load_quantized_matrix(record_of(group, checkpoint.path()), layer.name,
                                         layer.out_features, layer.in_features, weights);
        check_finite(matrix.scales(), layer.name, checkpoint.path());
        return integer_blocks(matrix);
      };
      return;
    }
    const quant::IntegerFormat integers =
        model::parse_integer_format(record_of(group, checkpoint_.path()));
    const quant::Format& eight = *quant::find_format("Q8_0");
    const bool fits = integers.bits == 8 && group.layer.in_features % eight.values == 0;
    part.format = &gguf_type_for(part.name, part.shape,
                                 type_ != nullptr ? *type_
                                 : fits           ? eight
                                                  : of_model_);
  }

  const io::Checkpoint& checkpoint_;
  const model::ModelConfig& config_;
  const io::GgufArchitecture& architecture_;
  io::GgufNames names_;
  const quant::Format* type_;
  const std::map<std::string, StoredGroup>& integers_;
  const IntegerBlocks& blocks_;
  const quant::Format& of_model_;
};

/// Takes a model's tensors under Hugging Face's names, in the order planned. Parts of one wait in
/// memory, encoded, for the last of them.
class ModelWriter : public io::TensorWriter {
 public:
  ModelWriter(io::GgufWriter& file, const std::vector<Planned>& planned,
              const std::filesystem::path& model)
      : file_(file), model_(model) {
    for (const Planned& file_tensor : planned) {
      left_[&file_tensor] = file_tensor.parts.size();
      for (const ModelPart& part : file_tensor.parts) places_[part.name] = {&file_tensor, &part};
    }
  }

  void write(const std::string& name, const torch::Tensor& tensor) override {
    if (is_left_out(name)) return;
    const auto& [planned, part] = places_.at(name);
    std::string encoded_part = encoded(*planned, *part, tensor);
    if (planned->parts.size() == 1) return file_.write(planned->spec.name, encoded_part);
    waiting_[name] = std::move(encoded_part);
    if (--left_.at(planned) > 0) return;
    std::string bytes;
    for (const ModelPart& p : planned->parts) {
      bytes += waiting_.at(p.name);
      waiting_.erase(p.name);
    }
    file_.write(planned->spec.name, bytes);
  }

  void finish() override { file_.finish(); }

 private:
  std::string encoded(const Planned& planned, const ModelPart& part,
                      const torch::Tensor& tensor) const {
    std::string bytes;
    if (part.blocks) {
      bytes = part.blocks();
    } else {
      const torch::Tensor shifted =
          planned.offset == 0.0 ? tensor : tensor.to(torch::kFloat32) + planned.offset;
      bytes = encode_weight(shifted, *planned.spec.format, part.name, model_);
    }
    if (part.interleaved_heads == 0) return bytes;
    return io::interleaved_rows(bytes, part.shape.front(), part.interleaved_heads);
  }

  io::GgufWriter& file_;
  const std::filesystem::path& model_;
  std::map<std::string, std::pair<const Planned*, const ModelPart*>> places_;
  std::map<const Planned*, size_t> left_;  // parts that have not come
  std::map<std::string, std::string> waiting_;
};

int64_t weights_in(const std::vector<io::GgufTensorSpec>& specs) {
  int64_t weights = 0;
  for (const io::GgufTensorSpec& spec : specs) {
    if (!spec.name.starts_with("rope_")) weights += c10::multiply_integers(spec.shape);
  }
  return weights;
}

int64_t write_folder(const io::Checkpoint& checkpoint, const GgufOptions& options,
                     const std::filesystem::path& file, const ProgressFn& progress) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  Keys keys = gguf_model_keys(checkpoint, config);
  keys.merge(text::gguf_keys(checkpoint.path(), config.vocab_size));
  keys[kGgufMadeBy] = {"schmidt export"};

  const IntegerBlocks blocks(checkpoint, config, options.type);
  const DenseModel dense = dense_model(
      checkpoint,
      {.dtype = torch::kFloat32,
       .without_low_ranks = options.without_low_ranks,
       .stays_integers = [&](const StoredGroup& integers) { return blocks(integers) != nullptr; }});
  const std::vector<Planned> planned =
      Planner(checkpoint, config, dense.integers, blocks, options.type).plan(dense.weights.specs());
  const auto factors = gguf_rope_factors(config);
  std::vector<io::GgufTensorSpec> specs;
  for (const auto& [name, values] : factors) {
    specs.push_back({name, values.sizes().vec(), &format_of(torch::kFloat32)});
  }
  for (const Planned& tensor : planned) specs.push_back(tensor.spec);
  add_file_type(keys, specs);
  io::GgufWriter out(file, keys, specs);
  for (const auto& [name, values] : factors) {
    out.write(name, io::encode_tensor(values, format_of(torch::kFloat32), name));
  }
  ModelWriter writer(out, planned, checkpoint.path());
  dense.weights.write_to(writer, progress);
  return weights_in(specs);
}

/// The same file again, its matrices in `type` where that is given.
int64_t write_again(const io::GgufFile& source, const quant::Format* type,
                    const std::filesystem::path& file, const ProgressFn& progress) {
  Keys keys = source.metadata();
  std::erase_if(keys, [](const auto& entry) { return entry.first.starts_with("split."); });
  keys[kGgufMadeBy] = {"schmidt export"};
  std::vector<io::GgufTensorSpec> specs;
  for (const auto& [name, tensor] : source.tensors()) {
    const quant::Format* format = tensor.format;
    if (type != nullptr && tensor.shape.size() > 1) {
      format =
          is_router(name) ? quant::find_format("F32") : &gguf_type_for(name, tensor.shape, *type);
    }
    specs.push_back({name, tensor.shape, format});
  }
  if (type != nullptr) add_file_type(keys, specs);
  io::GgufWriter out(file, keys, specs);
  int64_t written = 0;
  for (const io::GgufTensorSpec& spec : specs) {
    if (progress) {
      progress({"write", spec.name, written++, static_cast<int64_t>(specs.size()), "tensors"});
    }
    const io::GgufTensor& tensor = source.tensors().at(spec.name);
    if (tensor.format == spec.format) {
      out.write(spec.name, tensor.bytes);
    } else {
      out.write(spec.name,
                encode_weight(io::decode_tensor(tensor.bytes, *tensor.format, tensor.shape),
                              *spec.format, spec.name, source.path()));
    }
    io::forget_pages(tensor.bytes);
  }
  out.finish();
  return weights_in(specs);
}

}  // namespace

int64_t write_gguf_model(const io::Checkpoint& checkpoint, const GgufOptions& options,
                         const std::filesystem::path& file, const ProgressFn& progress) {
  if (checkpoint.is_gguf()) {
    return write_again(io::GgufFile::open(checkpoint.path()), options.type, file, progress);
  }
  return write_folder(checkpoint, options, file, progress);
}

}  // namespace schmidt::convert
