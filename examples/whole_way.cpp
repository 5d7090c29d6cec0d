// Open, inspect, compress, heal, generate.
//
//   usage: whole_way MODEL TEXT OUT
#include <cstdio>
#include <exception>

#include <schmidt/schmidt.h>

using namespace schmidt;

int main(int argc, char** argv) try {
  if (argc != 4) return std::puts("usage: whole_way MODEL TEXT OUT"), 2;
  const std::string out = argv[3];
  const io::Checkpoint original = io::Checkpoint::open(argv[1]);
  std::printf("%ld parameters\n", static_cast<long>(package::summarize(original).parameters));

  pipeline::CompressRecipe recipe;
  recipe.method = "fisher";
  recipe.keep = 0.8;
  recipe.shape.low_rank = true;
  recipe.allocation = pipeline::Allocation::kSensitivity;
  recipe.text = {.files = {argv[2]}, .tokens = 1024, .context = 64};
  pipeline::compress_model(original, recipe, {.out = out + "/small", .force = true}, {});

  heal::HealOptions heal{.data = {{argv[2]}}, .stream = {.context = 64}, .tokens = 2048};
  heal.force = true;
  pipeline::heal_model(io::Checkpoint::open(out + "/small"), original, heal,
                       {.out = out + "/healed"}, {});

  const model::Model model = model::Model::load(io::Checkpoint::open(out + "/healed"));
  const text::Tokenizer tokenizer = text::Tokenizer::load(out + "/healed");
  const auto answers = model::generate(model, {tokenizer.encode("Once")}, {.max_new_tokens = 16});
  std::printf("Once%s\n", tokenizer.decode(answers.front().ids, /*skip_special=*/true).c_str());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
