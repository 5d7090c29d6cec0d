#include "schmidt/heal/gradient_exchange.h"

#include <c10/util/Exception.h>

namespace schmidt::heal {

GradientExchange::GradientExchange(parallel::Exchange& exchange, const Sharding& sharding,
                                   torch::Tensor flat)
    : exchange_(exchange),
      sharding_(sharding),
      flat_(std::move(flat)),
      bucket_of_(sharding.parameters().size()),
      ready_(sharding.parameters().size(), false) {
  TORCH_CHECK_VALUE(
      flat_.dim() == 1 && flat_.scalar_type() == torch::kFloat32 &&
          (sharding.buckets().empty() || flat_.numel() >= sharding.buckets().front().slice.end),
      "[gradient exchange] expected a float32 vector of all gradients, got ", flat_.scalar_type(),
      " ", flat_.sizes());
  for (size_t b = 0; b < sharding_.buckets().size(); ++b) {
    const Bucket& bucket = sharding_.buckets()[b];
    for (size_t i = bucket.first; i < bucket.last; ++i) bucket_of_[i] = b;
    missing_.push_back(bucket.last - bucket.first);
  }
}

void GradientExchange::ready(size_t i) {
  TORCH_CHECK_VALUE(i < ready_.size() && !ready_[i], "[gradient exchange] expected each of ",
                    ready_.size(), " parameters once in a step, got parameter ", i);
  ready_[i] = true;
  --missing_[bucket_of_[i]];
  start_ready_buckets();
}

void GradientExchange::start_ready_buckets() {
  const std::vector<Bucket>& buckets = sharding_.buckets();
  while (started_ < buckets.size() && missing_[started_] == 0) start(buckets[started_++]);
}

void GradientExchange::start(const Bucket& bucket) {
  tickets_.push_back(exchange_.start_reduce_scatter(
      flat_.narrow(0, bucket.slice.begin, bucket.slice.size()), bucket.offsets));
}

void GradientExchange::finish() {
  const std::vector<Bucket>& buckets = sharding_.buckets();
  while (started_ < buckets.size()) start(buckets[started_++]);
  for (const parallel::Ticket& ticket : tickets_) exchange_.wait(ticket);
  tickets_.clear();
  started_ = 0;
  ready_.assign(ready_.size(), false);
  for (size_t b = 0; b < buckets.size(); ++b) missing_[b] = buckets[b].last - buckets[b].first;
}

}  // namespace schmidt::heal
