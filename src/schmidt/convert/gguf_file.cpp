#include "schmidt/convert/gguf_file.h"

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
struct Planned {
  std::string name;                          ///< Hugging Face's
  io::GgufTensorSpec spec;                   ///< of the file
  int64_t interleaved_heads = 0;             ///< see io::GgufWeight
  std::function<std::string()> blocks = {};  ///< its rows encoded; none: what the writer gets is
};

const quant::Format& format_of(torch::ScalarType dtype) {
  return *quant::find_format(dtype == torch::kFloat16    ? "F16"
                             : dtype == torch::kBFloat16 ? "BF16"
                                                         : "F32");
}

/// The format of blocks in which a weight's integers stay as they are in a file of that type
/// (GgufOptions); null where they do not.
const quant::Format* blocks_of(const StoredGroup& integers, const quant::Format* type,
                               const std::filesystem::path& model) {
  const quant::Format* blocks =
      block_format_of(model::parse_integer_format(record_of(integers, model)));
  return type == nullptr || type == blocks ? blocks : nullptr;
}

/// What old checkpoints of Llama hold beside their weights and no program reads.
bool is_left_out(const std::string& name) { return name.ends_with(".rotary_emb.inv_freq"); }

class Planner {
 public:
  Planner(const io::Checkpoint& checkpoint, const model::ModelConfig& config,
          const std::map<std::string, StoredGroup>& integers, const quant::Format* type)
      : checkpoint_(checkpoint),
        config_(config),
        type_(type),
        integers_(integers),
        of_model_(format_of(dense_dtype(checkpoint))) {}

  Planned plan(const io::TensorSpec& tensor) const {
    const auto name = io::gguf_name(tensor.name);
    if (!name) {
      throw FormatError(checkpoint_.path(), tensor.name,
                        "expected a tensor that GGUF has a name for, found this one");
    }
    Planned planned{tensor.name, {*name, tensor.shape, nullptr}, interleaved_heads(*name, config_)};
    const auto integers = integers_.find(tensor.name);
    if (integers == integers_.end()) {
      planned.spec.format = &gguf_type_for(tensor.name, tensor.shape,
                                           type_ != nullptr ? *type_ : stored(tensor.name));
      return planned;
    }
    plan_integers(integers->second, planned);
    return planned;
  }

 private:
  /// What a tensor is in, as far as it is in plain numbers, and else what the model is in.
  const quant::Format& stored(const std::string& name) const {
    const auto info = checkpoint_.tensors().find(name);
    if (info == checkpoint_.tensors().end()) return of_model_;
    const quant::Format* format = quant::find_format(info->second.stored_as);
    return format != nullptr ? *format : of_model_;
  }

  void plan_integers(const StoredGroup& group, Planned& planned) const {
    if (const quant::Format* blocks = blocks_of(group, type_, checkpoint_.path())) {
      planned.spec.format = blocks;
      planned.blocks = [checkpoint = checkpoint_, group] {
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
    planned.spec.format = &gguf_type_for(planned.name, planned.spec.shape,
                                         type_ != nullptr ? *type_
                                         : fits           ? eight
                                                          : of_model_);
  }

  const io::Checkpoint& checkpoint_;
  const model::ModelConfig& config_;
  const quant::Format* type_;
  const std::map<std::string, StoredGroup>& integers_;
  const quant::Format& of_model_;
};

/// Takes a model's tensors under Hugging Face's names, in the order planned.
class ModelWriter : public io::TensorWriter {
 public:
  ModelWriter(io::GgufWriter& file, const std::vector<Planned>& planned,
              const std::filesystem::path& model)
      : file_(file), planned_(planned), model_(model) {}

  void write(const std::string& name, const torch::Tensor& tensor) override {
    if (is_left_out(name)) return;
    TORCH_INTERNAL_ASSERT(next_ < planned_.size() && planned_[next_].name == name);
    const Planned& planned = planned_[next_++];
    std::string bytes = planned.blocks
                            ? planned.blocks()
                            : encode_weight(tensor, *planned.spec.format, planned.name, model_);
    if (planned.interleaved_heads != 0) {
      bytes = io::interleaved_rows(bytes, planned.spec.shape.front(), planned.interleaved_heads);
    }
    file_.write(planned.spec.name, bytes);
  }

  void finish() override { file_.finish(); }

 private:
  io::GgufWriter& file_;
  const std::vector<Planned>& planned_;
  const std::filesystem::path& model_;
  size_t next_ = 0;
};

int64_t weights_in(const std::vector<io::GgufTensorSpec>& specs) {
  int64_t weights = 0;
  for (const io::GgufTensorSpec& spec : specs) {
    if (spec.name != io::kGgufRopeFactors) weights += c10::multiply_integers(spec.shape);
  }
  return weights;
}

int64_t write_folder(const io::Checkpoint& checkpoint, const GgufOptions& options,
                     const std::filesystem::path& file, const ProgressFn& progress) {
  const model::ModelConfig config = model::parse_config(checkpoint.config(), checkpoint.path());
  Keys keys = gguf_model_keys(checkpoint, config);
  keys.merge(text::gguf_keys(checkpoint.path(), config.vocab_size));
  keys[kGgufMadeBy] = {"schmidt export"};

  const DenseModel dense = dense_model(
      checkpoint, {.dtype = torch::kFloat32,
                   .without_low_ranks = options.without_low_ranks,
                   .stays_integers = [&](const StoredGroup& integers) {
                     return blocks_of(integers, options.type, checkpoint.path()) != nullptr;
                   }});
  const Planner planner(checkpoint, config, dense.integers, options.type);
  const auto factors = gguf_rope_factors(config);
  std::vector<Planned> planned;
  std::vector<io::GgufTensorSpec> specs;
  if (factors) {
    specs.push_back(
        {std::string(io::kGgufRopeFactors), factors->sizes().vec(), &format_of(torch::kFloat32)});
  }
  for (const io::TensorSpec& tensor : dense.weights.specs()) {
    if (is_left_out(tensor.name)) continue;
    planned.push_back(planner.plan(tensor));
    specs.push_back(planned.back().spec);
  }
  add_file_type(keys, specs);
  io::GgufWriter out(file, keys, specs);
  if (factors) {
    out.write(specs.front().name, io::encode_tensor(*factors, *specs.front().format, "rope"));
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
    const bool changes = type != nullptr && tensor.shape.size() > 1;
    specs.push_back(
        {name, tensor.shape, changes ? &gguf_type_for(name, tensor.shape, *type) : tensor.format});
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
