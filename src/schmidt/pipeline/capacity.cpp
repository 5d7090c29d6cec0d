#include "schmidt/pipeline/capacity.h"

#include <fmt/format.h>

#include "schmidt/io/safetensors_layout.h"
#include "schmidt/pipeline/plan_model.h"
#include "schmidt/plan/footprint.h"
#include "schmidt/plan/stored_specs.h"

namespace schmidt::pipeline {
namespace {

struct Shapes {
  const char* name;
  int64_t hidden, mlp, blocks, heads, kv_heads, vocabulary;
  bool tied = false;
};

constexpr Shapes kKnown[] = {
    {"Llama-3.2 1B", 2048, 8192, 16, 32, 8, 128256, true},
    {"LLaMA-2 7B", 4096, 11008, 32, 32, 32, 32000},
    {"Llama-3 8B", 4096, 14336, 32, 32, 8, 128256},
    {"Llama-3 70B", 8192, 28672, 80, 64, 8, 128256},
};

plan::Outline outline_of(const Shapes& s) {
  return plan::outline({{"model_type", "llama"},
                        {"hidden_size", s.hidden},
                        {"intermediate_size", s.mlp},
                        {"num_hidden_layers", s.blocks},
                        {"num_attention_heads", s.heads},
                        {"num_key_value_heads", s.kv_heads},
                        {"vocab_size", s.vocabulary},
                        {"max_position_embeddings", 8192},
                        {"tie_word_embeddings", s.tied},
                        {"torch_dtype", "bfloat16"}},
                       s.name);
}

/// LLaMA's MLP: 8/3 of the width, rounded up to a multiple of 256.
Shapes in_proportion(int64_t blocks) {
  const int64_t hidden = 128 * blocks;
  const int64_t mlp = (8 * hidden / 3 + 255) / 256 * 256;
  return {"", hidden, mlp, blocks, blocks, blocks, 32000};
}

double file_bytes(const plan::Outline& model, int bits) {
  if (bits == 16) {
    const auto tensors = plan::written_tensors(model.tensors, {}, torch::kBFloat16);
    return static_cast<double>(io::written_bytes(tensors));
  }
  PlanRecipe recipe;
  recipe.preset = fmt::format("int{}", bits);
  return predict_plan(model, recipe).bytes;
}

double need_in(const plan::Outline& model, int bits, int64_t context) {
  return kLoadedShare * file_bytes(model, bits) + plan::kv_cache_bytes(model.config, context, 2);
}

}  // namespace

MemoryNeed memory_need(const std::string& name, const plan::Outline& model, int64_t context) {
  MemoryNeed need{name, model.parameters, {}};
  for (size_t i = 0; i < kCapacityBits.size(); ++i) {
    need.bytes.at(i) = need_in(model, kCapacityBits.at(i), context);
  }
  return need;
}

std::vector<MemoryNeed> known_needs(int64_t context) {
  std::vector<MemoryNeed> needs;
  for (const Shapes& shapes : kKnown) {
    needs.push_back(memory_need(shapes.name, outline_of(shapes), context));
  }
  return needs;
}

MemoryNeed largest_need(double memory, size_t width, int64_t context) {
  const auto fits = [&](int64_t blocks) {
    return need_in(outline_of(in_proportion(blocks)), kCapacityBits.at(width), context) <= memory;
  };
  constexpr int64_t kMost = 256;  // 3.4 trillion parameters
  int64_t least = 0, most = kMost;
  while (least < most) {
    const int64_t middle = (least + most + 1) / 2;
    if (fits(middle)) {
      least = middle;
    } else {
      most = middle - 1;
    }
  }
  if (least == 0) return {"", 0, {}};
  return memory_need(fmt::format("{} blocks", least), outline_of(in_proportion(least)), context);
}

}  // namespace schmidt::pipeline
