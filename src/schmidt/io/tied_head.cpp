#include "schmidt/io/tied_head.h"

#include <utility>

#include "schmidt/io/mapped_file.h"

namespace schmidt::io {
namespace {

using nlohmann::json;

constexpr const char* kTied = "tie_word_embeddings";
constexpr const char* kHead = "lm_head.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

bool same_bytes(const HfTensor& a, const HfTensor& b) {
  const bool same = a.bytes == b.bytes;
  forget_pages(a.bytes);
  forget_pages(b.bytes);
  return same;
}

bool same_scales(const std::optional<Scales>& a, const std::optional<Scales>& b) {
  if (!a || !b) return !a && !b;
  return a->dtype == b->dtype && a->block.rows == b->block.rows &&
         a->block.columns == b->block.columns && a->bytes == b->bytes;
}

bool same(const HfTensor& a, const HfTensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape && same_scales(a.scales, b.scales) &&
         same_bytes(a, b);
}

// Families whose config.json leaves the key out where it is true.
bool ties_unless_told(const json& config) {
  const std::string type =
      config.value("model_type", json()).is_string() ? config["model_type"].get<std::string>() : "";
  return type == "gemma2" || type == "gemma3_text";
}

bool has_compressed_head(const json& config) {
  return config.contains(json::json_pointer("/compression_config/layers/lm_head"));
}

}  // namespace

std::optional<std::string> settle_tied_head(json& config,
                                            std::map<std::string, HfTensor>& tensors) {
  if (!config.contains(kTied) && ties_unless_told(config)) config[kTied] = true;
  const auto tied = config.find(kTied);
  const auto head = tensors.find(kHead);
  if (tied == config.end() || *tied != json(true) || head == tensors.end() ||
      has_compressed_head(config)) {
    return std::nullopt;
  }
  const auto embedding = tensors.find(kEmbedding);
  if (embedding == tensors.end()) {
    tensors.emplace(kEmbedding, std::move(head->second));
    tensors.erase(kHead);
    return "the tied embedding is stored as lm_head.weight";
  }
  if (same(head->second, embedding->second)) {
    tensors.erase(head);
    return "lm_head.weight equals the tied embedding and is left out";
  }
  *tied = false;
  return "lm_head.weight differs from the embedding, although config.json has "
         "tie_word_embeddings true; the stored head is used, untied";
}

}  // namespace schmidt::io
