#include "schmidt/cli/loading.h"

#include <array>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <iterator>
#include <set>

#include <fmt/format.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/kept_memory.h"
#include "schmidt/base/named.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/text/utf8.h"

namespace schmidt::cli {
namespace {

struct CacheTypeName {
  std::string_view name;
  model::CacheType type;
};

constexpr std::array<CacheTypeName, 3> kCacheTypes = {{
    {"model", model::CacheType::kModel},
    {"bfloat16", model::CacheType::kBfloat16},
    {"int8", model::CacheType::kInt8},
}};

struct NetworksName {
  std::string_view name;
  model::Networks networks;
};

constexpr std::array<NetworksName, 2> kNetworks = {{
    {"fastest", model::Networks::kFastest},
    {"cores", model::Networks::kCores},
}};

std::vector<std::string> names_of(const auto& table) {
  std::vector<std::string> names;
  for (const auto& known : table) names.emplace_back(known.name);
  return names;
}

}  // namespace

void print_notes(const std::vector<std::string>& notes, const CommonOptions& options) {
  static std::set<std::string> printed;  // a model may be opened twice, as its own reference
  if (options.quiet || parallel::rank() != 0) return;
  for (const std::string& text : notes) {
    const std::string note = one_line(text);
    if (printed.insert(note).second) fmt::print(stderr, "note: {}\n", note);
  }
}

NoteFn printed_notes(const CommonOptions& options) {
  return [options](const std::string& note) { print_notes({note}, options); };
}

io::Checkpoint open_checkpoint(const std::string& path, const CommonOptions& options) {
  return open_checkpoint(path, printed_notes(options));
}

io::Checkpoint open_checkpoint(const std::string& path, const NoteFn& note) {
  const io::Checkpoint checkpoint = io::Checkpoint::open(path);
  for (const std::string& text : checkpoint.notes()) {
    if (note) note(text);
  }
  return checkpoint;
}

model::Model load_model(const io::Checkpoint& checkpoint, const CommonOptions& options,
                        const InferenceOptions& inference) {
  model::Model model =
      model::Model::load(checkpoint, {.dtype = options.torch_dtype(torch::kFloat32),
                                      .device = options.torch_device(),
                                      .networks = inference.networks,
                                      .activations = inference.activations,
                                      .search_likeliest = true,
                                      .cache_type = inference.cache_type});
  keep_freed_memory();  // every step asks for the same blocks
  return model;
}

void add_inference_options(CLI::App& verb, InferenceOptions& inference) {
  verb.add_flag_callback(
      "--exact", [&inference] { inference.activations = kernels::Activations::kExact; },
      "Products with integers of few bits in float32, without rounding what they read to int8");
  verb.add_option_function<std::string>(
          "--networks",
          [&inference](const std::string& name) {
            inference.networks = find_named(kNetworks, name, "--networks").networks;
          },
          "How layers of several sites are held: as what is fastest, which may be their matrices "
          "where memory allows it, or as their cores")
      ->check(CLI::IsMember(names_of(kNetworks)))
      ->default_str("fastest");
}

void add_cache_type_option(CLI::App& verb, model::CacheType& type) {
  verb.add_option_function<std::string>(
          "--cache-type",
          [&type](const std::string& name) {
            type = find_named(kCacheTypes, name, "--cache-type").type;
          },
          "What keys and values are kept in: the model's own type, bfloat16, or int8 with a scale "
          "for each token and head")
      ->check(CLI::IsMember(names_of(kCacheTypes)))
      ->default_str("model");
}

std::string_view name_of(model::CacheType type) {
  return kCacheTypes.at(static_cast<size_t>(type)).name;
}

text::Tokenizer load_tokenizer(const std::filesystem::path& path, const CommonOptions& options) {
  text::Tokenizer tokenizer = text::Tokenizer::load(path);
  print_notes(tokenizer.notes(), options);
  return tokenizer;
}

std::string read_text(const std::string& path) {
  std::error_code ec;
  if (std::filesystem::is_directory(path, ec)) throw SystemError("cannot read", path, EISDIR);
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (!in) throw SystemError("cannot read", path, errno != 0 ? errno : ENOENT);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  return std::string(text::utf8_text(bytes, path));
}

std::string read_stdin() {
  const std::string bytes{std::istreambuf_iterator<char>(std::cin), {}};
  return std::string(text::utf8_text(bytes, "standard input"));
}

}  // namespace schmidt::cli
