// A sensitivity profile by a metric of one's own: how often another token becomes the likeliest
// one when a single layer is compressed.
//
//   usage: own_metric MODEL TEXT OUT.json
//
// The library runs the text through the model once for each layer and setting, from that layer on;
// the metric sees the final hidden states of the changed model and of the original.
#include <cstdio>
#include <exception>

#include <schmidt/schmidt.h>

using namespace schmidt;

namespace {

double share_that_changes(const profile::Reading& reading) {
  int64_t changed = 0, tokens = 0;
  for (size_t b = 0; b < reading.ids.size(); ++b) {
    const auto batch = static_cast<int64_t>(b);
    const auto likeliest = [&](const calibrate::ActivationStream& hidden) {
      return reading.model.logits(hidden.read(batch)).argmax(-1);  // [b, t]
    };
    const torch::Tensor other = likeliest(reading.hidden) != likeliest(reading.reference);
    changed += other.sum().item<int64_t>();
    tokens += other.numel();
  }
  return static_cast<double>(changed) / static_cast<double>(tokens);
}

// The original's own value is 0, so that the value is the loss.
double loss_of(double value, double /*dense*/) { return value; }

const profile::Metric kChanges = {.name = "changes",
                                  .label = "share of tokens with another likeliest one",
                                  .asks = false,
                                  .measure = share_that_changes,
                                  .loss = loss_of,
                                  .loss_unit = "of tokens"};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 4) return std::puts("usage: own_metric MODEL TEXT OUT.json"), 2;
  profile::add_metric(kChanges);

  pipeline::ProfileRecipe recipe;
  recipe.measure.metric = kChanges.name;
  recipe.measure.settings = {0.25, 0.5};  // shares of a layer's parameters
  recipe.measure.shape.low_rank = true;
  recipe.text.files = {argv[2]};
  recipe.text.tokens = 1024;
  recipe.text.context = 64;
  const auto outcome = pipeline::profile_model(io::Checkpoint::open(argv[1]), recipe,
                                               {.out = argv[3], .force = true}, {});
  for (const profile::LayerProfile& layer : outcome.profile.layers) {
    std::printf("%-40s", layer.network.layer.name.c_str());
    for (const profile::Point& point : layer.points) std::printf(" %6.3f", point.loss);
    std::printf("\n");
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
