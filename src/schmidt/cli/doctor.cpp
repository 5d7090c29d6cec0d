#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <system_error>

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/cuda.h>
#include <torch/version.h>

#include "schmidt/base/control_group.h"
#include "schmidt/base/escaped_bytes.h"
#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/base/memory.h"
#include "schmidt/base/processor.h"
#include "schmidt/cli/console.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/kernels/instruction_sets.h"
#include "schmidt/kernels/memory_speed.h"
#include "schmidt/kernels/processor.h"
#include "schmidt/kernels/product_speed.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/pipeline/capacity.h"

namespace schmidt::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kContext = 4096;

struct DoctorOptions {
  std::string folder = ".";
  bool json = false;
  int threads = 0;
};

/// What this machine has. Numbers are bytes, bytes a second, operations a second.
struct Findings {
  ProcessorFacts processor;
  std::vector<std::string> instruction_sets;
  int threads = 0;
  int64_t memory = 0, free_memory = 0;
  GroupLimits limits;
  double read_speed = 0.0;
  double float32_speed = 0.0, bfloat16_speed = 0.0;
  std::optional<double> cuda_speed;  ///< in bfloat16
  uint64_t cuda_devices = 0;
  std::string mpi;
  fs::path folder;
  fs::space_info disk{};
  std::optional<fs::path> cache;
  int64_t cached_models = 0;
  std::vector<pipeline::MemoryNeed> known;
  std::vector<pipeline::MemoryNeed> largest;  ///< for each of kCapacityBits
  std::vector<std::string> missing;           ///< a sentence each
};

bool is_on_path(const char* program) {
  const char* const path = std::getenv("PATH");
  if (path == nullptr) return false;
  std::string_view rest = path;
  while (true) {
    const size_t end = std::min(rest.find(':'), rest.size());
    std::error_code error;
    if (end > 0 && fs::is_regular_file(fs::path(rest.substr(0, end)) / program, error)) return true;
    if (end == rest.size()) return false;
    rest.remove_prefix(end + 1);
  }
}

int64_t models_in(const fs::path& cache) {
  if (!is_folder(cache)) return 0;
  return std::ranges::count_if(folder_entries(cache), [](const fs::path& entry) {
    return entry.filename().string().starts_with("models--");
  });
}

std::vector<std::string> missing_of(const Findings& found) {
  using kernels::InstructionSet;
  std::vector<std::string> missing;
  const auto lacks = [&](bool is_there, const char* text) {
    if (!is_there) missing.emplace_back(text);
  };
  const auto set = [&](InstructionSet asked, const char* text) {
    lacks(kernels::supported(asked), text);
  };
  if (!kernels::supported(InstructionSet::kAvx2)) {
    missing.emplace_back("AVX2 and FMA: every kernel runs in portable code, several times slower");
  } else {
    set(InstructionSet::kAvx512, "AVX-512: kernels run in AVX2");
    set(InstructionSet::kAvx512Vnni,
        "AVX-512 VNNI: prompts pass models in integers of few bits more slowly");
    set(InstructionSet::kAvx512Bf16,
        "products of bfloat16: --dtype bfloat16 halves memory, but compress and heal compute in "
        "float32");
  }
  lacks(found.cuda_devices > 0,
        "CUDA: LibTorch was built without it, or finds no GPU; everything runs on the CPU");
  lacks(!found.mpi.empty(),
        "MPI: this build has none, so that compress, profile and heal run as one process");
  lacks(found.mpi.empty() || is_on_path("mpirun"),
        "mpirun on PATH: it starts runs of several processes");
  lacks(is_on_path("hf"),
        "hf on PATH: it downloads models (pip install huggingface_hub); models at hand need no hf");
  if (found.threads < static_cast<int>(found.processor.usable)) {
    missing.push_back(fmt::format(
        "{} of the {:g} processors that this process may use: --threads or OMP_NUM_THREADS say {}",
        static_cast<int>(found.processor.usable) - found.threads, found.processor.usable,
        found.threads));
  }
  return missing;
}

Findings examine(const DoctorOptions& options) {
  Findings found;
  if (options.threads > 0) at::set_num_threads(options.threads);
  found.folder = options.folder;
  std::error_code error;
  found.disk = fs::space(found.folder, error);
  if (error) throw SystemError("cannot read", found.folder, error.value());
  found.processor = processor_facts();
  for (const kernels::InstructionSet set : kernels::instruction_sets()) {
    if (kernels::supported(set)) found.instruction_sets.emplace_back(kernels::name_of(set));
  }
  found.threads = at::get_num_threads();
  found.memory = machine_bytes();
  found.free_memory = available_bytes();
  found.limits = group_limits();
  found.read_speed = kernels::measure_read_speed();
  found.float32_speed = kernels::measure_product_speed(torch::kCPU);
  if (kernels::multiplies_bfloat16(torch::kCPU)) {
    found.bfloat16_speed = kernels::measure_product_speed(torch::kCPU, torch::kBFloat16);
  }
  if (torch::cuda::is_available()) {
    found.cuda_devices = torch::cuda::device_count();
    found.cuda_speed = kernels::measure_product_speed(torch::kCUDA, torch::kBFloat16);
  }
  found.mpi = parallel::mpi_library();
  found.cache = io::hub_cache();
  if (found.cache) found.cached_models = models_in(*found.cache);
  found.known = pipeline::known_needs(kContext);
  for (size_t i = 0; i < pipeline::kCapacityBits.size(); ++i) {
    found.largest.push_back(
        pipeline::largest_need(static_cast<double>(found.free_memory), i, kContext));
  }
  found.missing = missing_of(found);
  return found;
}

void print_json(const Findings& found) {
  nlohmann::ordered_json out;
  out["schmidt"] = SCHMIDT_VERSION;
  out["libtorch"] = TORCH_VERSION;
  out["processor"] = {{"name", found.processor.name},
                      {"cores", found.processor.cores},
                      {"threads", found.processor.threads},
                      {"usable", found.processor.usable},
                      {"instruction_sets", found.instruction_sets}};
  out["threads"] = found.threads;
  out["memory"] = {{"bytes", found.memory}, {"free_bytes", found.free_memory}};
  if (found.limits.memory) out["memory"]["limit_bytes"] = *found.limits.memory;
  out["read_bytes_per_second"] = found.read_speed;
  out["flops"] = {{"float32", found.float32_speed}};
  if (found.bfloat16_speed > 0.0) out["flops"]["bfloat16"] = found.bfloat16_speed;
  if (found.cuda_speed) out["flops"]["cuda_bfloat16"] = *found.cuda_speed;
  out["cuda_devices"] = found.cuda_devices;
  out["mpi"] = found.mpi;
  out["disk"] = {{"folder", escaped_bytes(found.folder.string())},
                 {"bytes", found.disk.capacity},
                 {"free_bytes", found.disk.available}};
  if (found.cache) {
    out["hub_cache"] = {{"folder", escaped_bytes(found.cache->string())},
                        {"models", found.cached_models}};
  }
  out["capacity"]["context"] = kContext;
  for (size_t i = 0; i < pipeline::kCapacityBits.size(); ++i) {
    out["capacity"]["largest"].push_back({{"bits", pipeline::kCapacityBits.at(i)},
                                          {"parameters", found.largest.at(i).parameters},
                                          {"bytes", found.largest.at(i).bytes.at(i)}});
  }
  for (const pipeline::MemoryNeed& need : found.known) {
    nlohmann::ordered_json model = {{"name", need.name}, {"parameters", need.parameters}};
    for (size_t i = 0; i < pipeline::kCapacityBits.size(); ++i) {
      model["needs"].push_back(
          {{"bits", pipeline::kCapacityBits.at(i)},
           {"bytes", need.bytes.at(i)},
           {"fits", need.bytes.at(i) <= static_cast<double>(found.free_memory)}});
    }
    out["capacity"]["models"].push_back(std::move(model));
  }
  out["missing"] = found.missing;
  print_now(io::json_text(out) + "\n");
}

std::string bytes_text(auto bytes) { return human_bytes(static_cast<double>(bytes)); }

std::string speed_text(double flops) { return fmt::format("{:.3g} GFLOP/s", flops * 1e-9); }

std::string processor_text(const ProcessorFacts& processor) {
  std::string text = processor.name.empty() ? "of unknown name" : processor.name;
  if (processor.cores > 0) text += fmt::format(", {} cores", processor.cores);
  return text + fmt::format(", {} hardware threads, {:g} of them for this process",
                            processor.threads, processor.usable);
}

void print_text(const Findings& found) {
  const auto line = [](const char* name, const std::string& text) {
    fmt::print("{:<16} {}\n", name, text);
  };
  line("schmidt", fmt::format("{}, LibTorch {}", SCHMIDT_VERSION, TORCH_VERSION));
  line("processor", processor_text(found.processor));
  line("kernels",
       fmt::format("{}; {} threads", fmt::join(found.instruction_sets, ", "), found.threads));
  line("memory",
       fmt::format("{}, {} of it free{}", bytes_text(found.memory), bytes_text(found.free_memory),
                   found.limits.memory ? ", within the limit of this control group of " +
                                             bytes_text(*found.limits.memory)
                                       : ""));
  line("read speed", bytes_text(found.read_speed) + " a second");
  line("products",
       speed_text(found.float32_speed) + " in float32" +
           (found.bfloat16_speed > 0.0 ? ", " + speed_text(found.bfloat16_speed) + " in bfloat16"
                                       : ""));
  if (found.cuda_speed) {
    line("CUDA", fmt::format("{} devices, {} in bfloat16", found.cuda_devices,
                             speed_text(*found.cuda_speed)));
  }
  if (!found.mpi.empty()) line("MPI", found.mpi);
  line("disk", fmt::format("{} free of {} at {}", bytes_text(found.disk.available),
                           bytes_text(found.disk.capacity), found.folder.string()));
  if (found.cache) {
    line("models at hand", fmt::format("{} in {}", found.cached_models, found.cache->string()));
  }

  Table table;
  table.header = {"fits in memory", "parameters"};
  for (const int bits : pipeline::kCapacityBits)
    table.header.push_back(fmt::format("{} bits", bits));
  for (const pipeline::MemoryNeed& need : found.known) {
    std::vector<std::string> row = {need.name, human_count(static_cast<double>(need.parameters))};
    for (const double bytes : need.bytes) {
      const bool fits = bytes <= static_cast<double>(found.free_memory);
      row.push_back(bytes_text(bytes) + (fits ? "" : ", too large"));
    }
    table.rows.push_back(std::move(row));
  }
  std::vector<std::string> row = {"the largest", ""};
  for (const pipeline::MemoryNeed& need : found.largest) {
    row.push_back(need.parameters == 0 ? "none"
                                       : human_count(static_cast<double>(need.parameters)));
  }
  table.rows.push_back(std::move(row));
  fmt::print(
      "\n{}\nMemory while a model answers: its weights and {} tokens of keys and values. 16 bits "
      "ask for\n--dtype bfloat16, 8 and 4 for a model of schmidt quantize. The largest has LLaMA's "
      "proportions.\n",
      table.aligned(), kContext);
  if (!found.missing.empty()) fmt::print("\n");
  for (const std::string& missing : found.missing) line("missing", missing);
}

}  // namespace

Action add_doctor(CLI::App& verb) {
  auto options = std::make_shared<DoctorOptions>();
  verb.add_option("FOLDER", options->folder, "Where a model would be written")
      ->type_name(kFolderValue)
      ->capture_default_str();
  verb.add_flag("--json", options->json, "Print one JSON object");
  verb.add_option("--threads", options->threads, "CPU threads (0: one for each core)")
      ->check(CLI::Range(0, 4096));
  return [options] {
    const Findings found = examine(*options);
    if (options->json) {
      print_json(found);
    } else {
      print_text(found);
    }
  };
}

}  // namespace schmidt::cli
