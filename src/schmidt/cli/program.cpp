#include "schmidt/cli/program.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/format_error.h"
#include "schmidt/base/out_of_memory.h"
#include "schmidt/cli/exit_code.h"
#include "schmidt/cli/interrupted.h"
#include "schmidt/cli/output.h"
#include "schmidt/cli/verbs.h"
#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::cli {
namespace {

/// Memory for when there is no more: JSON values take a little as they go, and a destructor must
/// not fail. The first is for one that goes in the course of things, the second for those that go
/// while an exception passes.
void* first_reserve = nullptr;
void* last_reserve = nullptr;

void no_more_memory() {
  void*& reserve = std::uncaught_exceptions() == 0 ? first_reserve : last_reserve;
  if (reserve == nullptr) throw std::bad_alloc();
  std::free(std::exchange(reserve, nullptr));  // and `new` tries again
}

struct Verb {
  const char* name;
  const char* help;
  Action (*add)(CLI::App&);
};

constexpr Verb kVerbs[] = {
    {"inspect", "Show the architecture, the sizes and every layer of a model", add_inspect},
    {"compress", "Make a model smaller: low ranks or Matrix Product Operators for its weights",
     add_compress},
    {"quantize", "Make a model smaller: integers of 8 to 2 bits for its dense weights",
     add_quantize},
    {"profile", "Measure what a model loses when each layer alone is compressed", add_profile},
    {"plan", "Decide where the parameters of a budget go; predict sizes, memory and time",
     add_plan},
    {"heal", "Retrain a compressed model briefly", add_heal},
    {"export", "Write a model for another program", add_export},
    {"eval", "Measure perplexity and the KL divergence from a reference, or ask benchmarks",
     add_eval},
    {"generate", "Continue a prompt", add_generate},
    {"sample", "Write text of a model's own, to calibrate, heal and evaluate with", add_sample},
    {"chat", "Talk with a model", add_chat},
    {"serve", "Answer over HTTP, as OpenAI's API does", add_serve},
    {"tokenize", "Turn text into token ids, line by line", add_tokenize},
    {"detokenize", "Turn token ids into text, line by line", add_detokenize},
    {"bench", "Measure the speed of prefill and decode, models side by side", add_bench},
    {"doctor", "Show what this machine has, what it lacks, and which models it can hold",
     add_doctor},
    {"run", "Follow a recipe: several of these verbs, one after the other, into one folder",
     add_run},
    {"report", "Write the tables and figures of such a run as one page", add_report},
    {"completion", "Print a script that completes commands in a shell", add_completion},
    {"man", "Print the manual page", add_man},
};

int fail(ExitCode code, std::string message) {
  // One line, whatever the library below had to say.
  message.resize(std::min(message.find('\n'), message.size()));
  std::fflush(stdout);
  std::fputs(fmt::format("error: {}\n", message).c_str(), stderr);
  return code;
}

int fail(const OutputError& error) {
  return error.reader_left() ? kReaderLeft : fail(kCallersMistake, error.what());
}

// CLI11 would only say that a subcommand is missing.
void check_verb(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return;
  std::vector<std::string_view> names;
  for (const Verb& verb : kVerbs) names.emplace_back(verb.name);
  TORCH_CHECK_VALUE(std::find(names.begin(), names.end(), argv[1]) != names.end(),
                    "unknown verb \"", argv[1], "\"; expected one of ",
                    fmt::format("{}", fmt::join(names, ", ")));
}

int run(int argc, char** argv) {
  // LibTorch reads this at its first allocation. Decoding streams every weight for
  // every token, and huge pages spare it most of the page table walks.
  ::setenv("THP_MEM_ALLOC_ENABLE", "1", /*overwrite=*/0);
  CLI::App app("Compress large language models with tensor networks.", "schmidt");
  app.set_version_flag("--version", "schmidt " SCHMIDT_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(36);
  for (const Verb& verb : kVerbs) {
    CLI::App* sub = app.add_subcommand(verb.name, verb.help);
    sub->callback(verb.add(*sub));
    check_whole_numbers(*sub);
  }
  try {
    check_verb(argc, argv);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
      if (e.get_exit_code() != 0) return fail(kCallersMistake, e.what());
      app.exit(e);  // --help and --version
    }
    flush_output();
    return kDone;
  } catch (const OutputError& e) {
    return fail(e);
  } catch (const Interrupted& e) {
    if (parallel::rank() == 0) std::fputs(fmt::format("{}\n", e.what()).c_str(), stderr);
    parallel::finalize();  // all ranks have agreed to stop: none has to end the others
    return e.exit_code();
  } catch (const FailedStage& e) {
    return e.exit_code();
  } catch (const FormatError& e) {
    return fail(kBadFile, e.what());
  } catch (const SystemError& e) {
    return fail(kCallersMistake, e.what());
  } catch (const std::filesystem::filesystem_error& e) {
    return fail(kCallersMistake, SystemError("cannot access", e.path1(), e.code().value()).what());
  } catch (const parallel::LostRank& e) {
    return fail(kCallersMistake, e.what());
  } catch (const c10::ValueError& e) {
    return fail(kCallersMistake, e.what_without_backtrace());
  } catch (const c10::LinAlgError& e) {
    return fail(kBadFile, e.what_without_backtrace());
  } catch (const c10::Error& e) {
    const std::string message = e.what_without_backtrace();
    if (const auto memory = out_of_memory(message)) return fail(kCallersMistake, *memory);
    return fail(kDefect, "this is a defect of schmidt: " + message);
  } catch (const std::system_error& e) {
    // fmt throws it where a print fills the buffer.
    if (std::ferror(stdout) != 0) return fail(OutputError(e.code().value()));
    return fail(kCallersMistake, e.what());
  } catch (const nlohmann::json::exception&) {
    return fail(kBadFile, "expected another form of JSON in a file that an earlier run left");
  } catch (const std::bad_alloc&) {
    return fail(kCallersMistake, "out of memory");
  } catch (const std::exception& e) {
    return fail(kDefect, fmt::format("this is a defect of schmidt: {}", e.what()));
  }
}

void keep_reserves() {
  constexpr size_t kReserve = 1 << 20;
  first_reserve = std::malloc(kReserve);
  last_reserve = std::malloc(kReserve);
  std::set_new_handler(no_more_memory);
}

}  // namespace

int run_program(int argc, char** argv) {
  keep_reserves();
  guard_standard_streams();
  const int code = run(argc, argv);
  if (code != 0) parallel::abort(code);  // the other ranks would wait for this one
  parallel::finalize();
  return code;
}

}  // namespace schmidt::cli
