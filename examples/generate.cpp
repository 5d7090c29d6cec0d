// Continues a prompt and prints the text as it is drawn; a callback sees every token and ends the
// answer where it likes, here at the end of a line.
//
//   usage: generate MODEL PROMPT
#include <cstdio>
#include <exception>

#include <schmidt/schmidt.h>

using namespace schmidt;

int main(int argc, char** argv) try {
  if (argc != 3) return std::puts("usage: generate MODEL PROMPT"), 2;
  const model::Model model = model::Model::load(io::Checkpoint::open(argv[1]));
  const text::Tokenizer tokenizer = text::Tokenizer::load(argv[1]);

  // Text leaves the decoder in whole characters.
  text::StreamDecoder decoder = text::answer_decoder(tokenizer, /*continues=*/true);
  const auto show = [&](int64_t /*row*/, int64_t id) {
    const std::string piece = decoder.push(id);
    std::fputs(piece.c_str(), stdout);
    std::fflush(stdout);
    return piece.find('\n') == std::string::npos;
  };
  model::GenerateOptions options;
  options.max_new_tokens = 64;
  options.sampling = {.temperature = 0.8, .top_p = 0.95, .seed = 7};
  options.never_drawn = tokenizer.ids_without_token(model.config().vocab_size);
  const auto answers = model::generate(model, {tokenizer.encode(argv[2])}, options, show);
  std::printf("%s\n%zu tokens\n", decoder.flush().c_str(), answers.front().ids.size());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
