#include "tests/support/tiny_model.h"

#include <ATen/CPUGeneratorImpl.h>
#include <fmt/format.h>

#include "schmidt/io/safetensors.h"
#include "schmidt/model/config.h"
#include "schmidt/model/layers.h"

#include "tests/support/support.h"

namespace schmidt::test {

TinyModel make_tiny_model(int64_t blocks, uint64_t seed, int64_t scale) {
  constexpr int64_t kHeads = 4, kKeyValueHeads = 2, kVocabulary = 264;
  const int64_t hidden = 24 * scale, head_dim = 6 * scale, mlp = 36 * scale;
  TinyModel model;
  model.config = {{"architectures", {"LlamaForCausalLM"}},
                  {"model_type", "llama"},
                  {"hidden_size", hidden},
                  {"intermediate_size", mlp},
                  {"num_hidden_layers", blocks},
                  {"num_attention_heads", kHeads},
                  {"num_key_value_heads", kKeyValueHeads},
                  {"head_dim", head_dim},
                  {"vocab_size", kVocabulary},
                  {"max_position_embeddings", 128},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", true},
                  {"torch_dtype", "float32"},
                  {"bos_token_id", 1},
                  {"eos_token_id", 2}};
  auto generator = at::detail::createCPUGenerator(seed);
  const auto random = [&](std::vector<int64_t> shape) {
    return torch::randn(shape, generator, torch::kFloat32) * 0.1;
  };
  auto& t = model.tensors;
  t["model.embed_tokens.weight"] = random({kVocabulary, hidden});
  t["model.norm.weight"] = torch::ones({hidden}) + random({hidden});
  for (int64_t b = 0; b < blocks; ++b) {
    const std::string p = fmt::format("model.layers.{}.", b);
    t[p + "input_layernorm.weight"] = torch::ones({hidden}) + random({hidden});
    t[p + "post_attention_layernorm.weight"] = torch::ones({hidden}) + random({hidden});
    t[p + "self_attn.q_proj.weight"] = random({kHeads * head_dim, hidden});
    t[p + "self_attn.k_proj.weight"] = random({kKeyValueHeads * head_dim, hidden});
    t[p + "self_attn.v_proj.weight"] = random({kKeyValueHeads * head_dim, hidden});
    t[p + "self_attn.o_proj.weight"] = random({hidden, kHeads * head_dim});
    t[p + "mlp.gate_proj.weight"] = random({mlp, hidden});
    t[p + "mlp.up_proj.weight"] = random({mlp, hidden});
    t[p + "mlp.down_proj.weight"] = random({hidden, mlp});
  }
  return model;
}

TinyModel make_tiny_model_of(const std::string& model_type, const nlohmann::json& changes) {
  TinyModel model = make_tiny_model();
  model.config["model_type"] = model_type;
  model.config.erase("architectures");
  model.config.update(changes);
  const model::ModelConfig config = model::parse_config(model.config, "tiny");
  auto generator = at::detail::createCPUGenerator(3);
  const auto random = [&](std::vector<int64_t> shape) {
    return torch::randn(shape, generator, torch::kFloat32);
  };
  const auto norm = [&](int64_t size) { return 1.0 - config.norm_offset + 0.1 * random({size}); };
  const torch::Tensor embedding = model.tensors.at("model.embed_tokens.weight");
  model.tensors = {{"model.embed_tokens.weight", embedding},
                   {"model.norm.weight", norm(config.hidden_size)}};
  if (!config.tie_embeddings)
    model.tensors["lm_head.weight"] = 0.3 * random(embedding.sizes().vec());
  for (const model::LayerSpec& layer : model::block_layers(config)) {
    model.tensors[layer.name + ".weight"] = 0.2 * random({layer.out_features, layer.in_features});
    if (layer.bias) model.tensors[layer.name + ".bias"] = 0.1 * random({layer.out_features});
  }
  for (int64_t b = 0; b < config.num_layers; ++b) {
    for (const model::NormSpec& spec : model::block_norms(config, b)) {
      model.tensors[spec.name + ".weight"] = norm(spec.size);
    }
    for (const model::RouterSpec& router : model::block_routers(config, b)) {
      model.tensors[router.name + ".weight"] = random({router.experts, config.hidden_size});
    }
  }
  return model;
}

std::filesystem::path write_model(const TinyModel& model, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  write_file(folder / "config.json", model.config.dump(2));
  io::save_safetensors(folder / "model.safetensors", {model.tensors.begin(), model.tensors.end()},
                       {{"format", "pt"}});
  return folder;
}

void write_byte_tokenizer(const std::filesystem::path& folder, const ByteTokenizer& of) {
  // GPT-2's byte alphabet: printable bytes stand for themselves, the others for the
  // code points from U+0100 on.
  nlohmann::json vocabulary = nlohmann::json::object();
  for (const std::string& content : of.special) vocabulary[content] = vocabulary.size();
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
    const int code = printable ? byte : next++;
    const std::string utf8 = code < 0x80 ? std::string(1, static_cast<char>(code))
                                         : std::string{static_cast<char>(0xc0 | (code >> 6)),
                                                       static_cast<char>(0x80 | (code & 0x3f))};
    vocabulary[utf8] = of.special.size() + byte;
  }
  for (const std::string& merge : of.merges) {
    const size_t space = merge.find(' ');
    vocabulary[merge.substr(0, space) + merge.substr(space + 1)] = vocabulary.size();
  }
  nlohmann::json added;
  for (const std::string& content : of.special) {
    added.push_back({{"id", vocabulary[content]},
                     {"content", content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  const nlohmann::json byte_level = {{"type", "ByteLevel"},
                                     {"add_prefix_space", false},
                                     {"trim_offsets", true},
                                     {"use_regex", true}};
  const nlohmann::json tokenizer = {
      {"version", "1.0"},
      {"added_tokens", added},
      {"normalizer", nullptr},
      {"pre_tokenizer", byte_level},
      {"post_processor", nullptr},
      {"decoder", byte_level},
      {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", of.merges}}}};
  write_file(folder / "tokenizer.json", tokenizer.dump());
  write_file(folder / "tokenizer_config.json",
             nlohmann::json{
                 {"bos_token", of.bos}, {"eos_token", of.eos}, {"chat_template", of.chat_template}}
                 .dump());
}

}  // namespace schmidt::test
