#include <charconv>
#include <iostream>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/cli/sampling.h"
#include "schmidt/cli/verbs.h"

namespace schmidt::cli {
namespace {

struct TokenizeOptions {
  CommonOptions common;
  std::string model;
  std::string text;
  bool no_special = false;
  bool add_special = false;
};

void tokenize(const TokenizeOptions& options) {
  const auto tokenizer = load_tokenizer(options.model, options.common);
  const std::string input = options.text.empty() ? read_stdin() : read_text(options.text);
  const text::EncodeOptions encode{!options.no_special, options.add_special};
  nlohmann::json lines = nlohmann::json::array();
  // Two that the text brings are meant.
  bool said_two_bos = !options.add_special || !adds_bos(tokenizer);
  std::string_view rest = input;
  while (!rest.empty()) {
    const size_t end = rest.find('\n');
    const auto ids = tokenizer.encode(rest.substr(0, end), encode);
    note_two_bos(tokenizer, ids, options.common, said_two_bos);
    if (options.common.json) {
      lines.push_back(ids);
    } else {
      fmt::print("{}\n", fmt::join(ids, " "));
    }
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  }
  if (options.common.json) fmt::print("{}\n", nlohmann::json{{"ids", lines}}.dump());
}

std::vector<int64_t> parse_ids(const std::string& line, int64_t number) {
  std::vector<int64_t> ids;
  const char* at = line.data();
  const char* const end = at + line.size();
  while (true) {
    while (at != end && (*at == ' ' || *at == '\t' || *at == ',' || *at == '\r')) ++at;
    if (at == end) return ids;
    int64_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    TORCH_CHECK_VALUE(error == std::errc(), "[detokenize] line ", number,
                      ": expected token ids, got \"",
                      std::string(at, std::min<const char*>(end, at + 20)), "\"");
    ids.push_back(id);
    at = next;
  }
}

void detokenize(const TokenizeOptions& options) {
  const auto tokenizer = load_tokenizer(options.model, options.common);
  nlohmann::json texts = nlohmann::json::array();
  std::string line;
  for (int64_t number = 1; std::getline(std::cin, line); ++number) {
    const std::string text = tokenizer.decode(parse_ids(line, number), options.no_special);
    if (options.common.json) {
      texts.push_back(text);
    } else {
      fmt::print("{}\n", text);
    }
  }
  if (options.common.json) {
    using Dump = nlohmann::json::error_handler_t;
    fmt::print("{}\n", nlohmann::json{{"text", texts}}.dump(-1, ' ', false, Dump::replace));
  }
}

}  // namespace

Action add_tokenize(CLI::App& verb) {
  auto options = std::make_shared<TokenizeOptions>();
  add_model_argument(verb, options->model);
  verb.add_option("--text", options->text, "File to read instead of standard input")
      ->type_name(kFileValue);
  verb.add_flag("--no-special", options->no_special,
                "Take special tokens in the text as plain text");
  verb.add_flag("--add-special", options->add_special,
                "Add the tokenizer's own special tokens, such as BOS");
  add_common_options(verb, options->common);
  return [options] { tokenize(*options); };
}

Action add_detokenize(CLI::App& verb) {
  auto options = std::make_shared<TokenizeOptions>();
  add_model_argument(verb, options->model);
  verb.add_flag("--no-special", options->no_special, "Leave special tokens out of the text");
  add_common_options(verb, options->common);
  return [options] { detokenize(*options); };
}

}  // namespace schmidt::cli
