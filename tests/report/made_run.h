#pragma once

#include <cmath>
#include <string>

#include "schmidt/report/run_facts.h"

#include "tests/profile/made_profile.h"
#include "tests/report/made_log.h"

namespace schmidt::test {

/// A run with everything: seven models, two texts, benchmarks, speeds, a profile, healing,
/// samples, stages in every state.
inline report::RunFacts made_run() {
  using namespace report;
  RunFacts facts{.name = "results"};
  const auto model = [&](std::string name, std::string origin, int64_t parameters, uint64_t bytes) {
    facts.models.push_back({name, std::move(origin), parameters, 134515008, bytes, "run.json", 0});
  };
  model("original", "SmolLM2-135M-Instruct", 134515008, 269060552);
  model("int8", "quantize: bits 8", 134515008, 138826288);
  model("int4", "quantize: bits 4, method learned", 134515008, 86571568);
  model("tensorized", "compress: keep 0.5", 67257504, 134515008);
  model("healed", "heal of tensorized: tokens 1M", 67257504, 134515008);
  model("mixed", "quantize of healed: bits 4, layers dense", 67257504, 55571568);
  model("size80", "compress: size 80MB", 134515008, 79998976);
  facts.original = 0;
  facts.texts = {{"wiki.test.raw", 512, 12264}, {"chat.valid.txt", 512, 4088}};
  for (size_t text = 0; text < 2; ++text) {
    for (size_t i = 0; i < facts.models.size(); ++i) {
      const double loss = std::log(18.25 + 3.5 * static_cast<double>(text)) +
                          0.0625 * static_cast<double>((i * i) % 7);
      TextScoreFacts score{i, text, std::exp(loss), loss, 0.03125};
      const double kl = 0.0625 * static_cast<double>((i * i) % 7) + 0.0015;
      if (i > 0) score.kl = {kl, 0.7 * kl, 2 * kl, 5 * kl, 9 * kl, 20 * kl, 1 / (1 + kl)};
      score.source = facts.models[i].name + "-eval.json";
      facts.text_scores.push_back(score);
    }
  }
  for (size_t i = 0; i < 4; ++i) {
    for (const char* task : {"hellaswag", "boolq", "gsm8k"}) {
      TaskScoreFacts score{.model = i, .task = task, .metric = "acc_norm"};
      score.value = 0.43 - 0.02 * static_cast<double>(i);
      score.standard_error = 0.0049;
      if (i > 0) score.recovery = 100.0 * score.value / 0.43;
      score.questions = 10042;
      score.source = facts.models[i].name + "-tasks.json";
      facts.task_scores.push_back(score);
    }
  }
  for (size_t i = 0; i < facts.models.size(); ++i) {
    const double ratio = 1.0 + 0.35 * static_cast<double>((3 * i) % 5);
    facts.speeds.push_back({i, "speed", "pp512", 800.0 * ratio, 4.0, ratio, "speed.json"});
    facts.speeds.push_back({i, "speed", "tg128", 40.0 * ratio, 0.5, ratio, "speed.json"});
  }
  facts.healings.push_back({4, made_log(400), "healed/heal.jsonl"});
  facts.sensitivities.push_back({"sensitivity",
                                 make_profile(seven_layers(6), {0.1, 0.2, 0.35, 0.5, 0.75},
                                              [](const plan::Layer& layer, double share) {
                                                return 5.0 * std::exp(-14 * share) /
                                                       (1.0 + static_cast<double>(layer.block));
                                              }),
                                 "sensitivity.json"});
  for (const char* prompt : {"The capital of France is", "Once upon a time"}) {
    for (size_t i = 0; i < 5; ++i) {
      facts.samples.push_back({i, prompt,
                               " a city on the Seine.\nIt has 2 million people, and <b>more</b> "
                               "around it, who go to work in the morning.",
                               facts.models[i].name + "-text.json"});
    }
  }
  facts.largest_mlp_weight = {"gate_proj", 1536, 576};
  facts.machines = {{"Intel(R) Xeon(R) Processor",
                     2,
                     16000000000,
                     {"portable", "avx2", "avx512", "avx512-vnni", "avx512-bf16"}}};
  facts.stages = {{"int8",
                   "quantize",
                   StageState::kFinished,
                   {"quantize", "m", "--bits=8", "--json"},
                   "schmidt 0.1.0",
                   "2026-01-31T23:59:59Z",
                   12.5,
                   0,
                   "int8/config.json"},
                  {"healed",
                   "heal",
                   StageState::kFinished,
                   {"heal", "two words", "--seed=7"},
                   "schmidt 0.1.0",
                   "2026-02-01T01:12:00Z",
                   4321.0,
                   0,
                   "healed/config.json"},
                  {"mixed-eval", "eval", StageState::kBegun},
                  {"later", "bench", StageState::kNotBegun},
                  {"lost", "eval", StageState::kGone}};
  return facts;
}

}  // namespace schmidt::test
