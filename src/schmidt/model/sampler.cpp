#include "schmidt/model/sampler.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

namespace schmidt::model {
namespace {

struct Candidate {
  int64_t id = 0;
  double logit = 0.0;
  double probability = 0.0;
};

void penalize(std::span<float> logits, std::span<const int64_t> context, double penalty) {
  const std::set<int64_t> seen(context.begin(), context.end());
  for (const int64_t id : seen) {
    if (id < 0 || std::cmp_greater_equal(id, logits.size())) continue;
    float& logit = logits[id];
    logit = static_cast<float>(logit < 0.0F ? logit * penalty : logit / penalty);
  }
}

// Candidates, likeliest first, sorted no further than they are read: a draw mostly ends
// among the first few of a vocabulary.
class Ranking {
 public:
  explicit Ranking(std::vector<Candidate> candidates) : candidates_(std::move(candidates)) {}

  size_t size() const { return candidates_.size(); }

  const Candidate& operator[](size_t rank) {
    if (rank >= sorted_) sort(std::min(size(), 4 * rank + 64));
    return candidates_[rank];
  }

  /// The first `count`, 1 or more.
  void keep(size_t count) {
    (*this)[count - 1];
    candidates_.resize(count);
    sorted_ = std::min(sorted_, count);
  }

  /// Softmax over what is left.
  void normalize() {
    double total = 0.0;
    for (Candidate& candidate : candidates_) {
      candidate.probability = std::exp(candidate.logit);
      total += candidate.probability;
    }
    for (Candidate& candidate : candidates_) candidate.probability /= total;
  }

 private:
  void sort(size_t end) {
    const auto likelier = [](const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const auto at = [&](size_t rank) {
      return candidates_.begin() + static_cast<std::ptrdiff_t>(rank);
    };
    std::partial_sort(at(sorted_), at(end), candidates_.end(), likelier);
    sorted_ = end;
  }

  std::vector<Candidate> candidates_;
  size_t sorted_ = 0;
};

// All but what float32 could not tell from zero.
Ranking ranking(std::span<const float> logits, float largest, double temperature) {
  constexpr double kNegligible = 104.0;  // exp(-104) is below the least float32
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (size_t id = 0; id < logits.size(); ++id) {
    const double logit = (static_cast<double>(logits[id]) - largest) / temperature;
    if (logit >= -kNegligible) candidates.push_back({static_cast<int64_t>(id), logit, 0.0});
  }
  return Ranking(std::move(candidates));
}

void keep_top_p(Ranking& candidates, double top_p) {
  double mass = 0.0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || mass < top_p)) {
    mass += candidates[kept++].probability;
  }
  candidates.keep(kept);
}

void keep_min_p(Ranking& candidates, double min_p) {
  const double least = min_p * candidates[0].probability;
  size_t kept = 1;
  while (kept < candidates.size() && candidates[kept].probability >= least) ++kept;
  candidates.keep(kept);
}

// Uniform in [0, 1) from 53 bits: the same on every platform, unlike the standard
// library's distributions.
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1.0p-53; }

}  // namespace

void check_sampling(const SamplingOptions& o) {
  TORCH_CHECK_VALUE(o.repetition_penalty >= kLeastRepetitionPenalty &&
                        o.repetition_penalty <= kLargestRepetitionPenalty,
                    "[sample] expected a repetition penalty from ", kLeastRepetitionPenalty, " to ",
                    kLargestRepetitionPenalty, ", got ", o.repetition_penalty);
  TORCH_CHECK_VALUE(o.temperature >= 0.0 && std::isfinite(o.temperature),
                    "[sample] expected a temperature of 0 or more, got ", o.temperature);
  TORCH_CHECK_VALUE(o.top_k >= 0, "[sample] expected a top-k of 0 or more, got ", o.top_k);
  TORCH_CHECK_VALUE(o.top_p > 0.0 && o.top_p <= 1.0, "[sample] expected a top-p in (0, 1], got ",
                    o.top_p);
  TORCH_CHECK_VALUE(o.min_p >= 0.0 && o.min_p <= 1.0, "[sample] expected a min-p in [0, 1], got ",
                    o.min_p);
}

Sampler::Sampler(const SamplingOptions& options, uint64_t stream) : options_(options) {
  check_sampling(options);
  const auto low = [](uint64_t v) { return static_cast<uint32_t>(v); };
  const auto high = [](uint64_t v) { return static_cast<uint32_t>(v >> 32); };
  std::seed_seq words{low(options.seed), high(options.seed), low(stream), high(stream)};
  random_.seed(words);
}

int64_t Sampler::draw(const torch::Tensor& logits, std::span<const int64_t> context) {
  TORCH_CHECK_VALUE(logits.dim() == 1 && logits.size(0) > 0, "[sample] expected logits [vocab], ",
                    "got ", logits.sizes());
  torch::Tensor values = logits.detach().to(torch::kCPU, torch::kFloat32).contiguous();
  if (options_.repetition_penalty != 1.0) {
    if (values.is_alias_of(logits)) values = values.clone();
    penalize({values.mutable_data_ptr<float>(), static_cast<size_t>(values.numel())}, context,
             options_.repetition_penalty);
  }
  const std::span<const float> scores(values.const_data_ptr<float>(),
                                      static_cast<size_t>(values.numel()));
  size_t best = 0;
  bool has_nan = false;
  for (size_t id = 0; id < scores.size(); ++id) {
    has_nan = has_nan || std::isnan(scores[id]);
    if (scores[id] > scores[best]) best = id;
  }
  TORCH_CHECK_VALUE(!has_nan && std::isfinite(scores[best]),
                    "[sample] expected finite logits, got NaN or infinity");
  if (options_.temperature == 0.0) return static_cast<int64_t>(best);

  Ranking candidates = ranking(scores, scores[best], options_.temperature);
  if (options_.top_k > 0 && std::cmp_less(options_.top_k, candidates.size())) {
    candidates.keep(static_cast<size_t>(options_.top_k));
  }
  candidates.normalize();
  if (options_.top_p < 1.0) {
    keep_top_p(candidates, options_.top_p);
    candidates.normalize();
  }
  if (options_.min_p > 0.0) {
    keep_min_p(candidates, options_.min_p);
    candidates.normalize();
  }
  double left = uniform(random_);
  for (size_t rank = 0; rank < candidates.size(); ++rank) {
    left -= candidates[rank].probability;
    if (left < 0.0) return candidates[rank].id;
  }
  return candidates[candidates.size() - 1].id;
}

}  // namespace schmidt::model
