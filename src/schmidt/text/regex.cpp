#include "schmidt/text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <c10/util/Exception.h>
#include <pcre2.h>

#include "schmidt/text/utf8.h"

namespace schmidt::text {
namespace {

// Steps for one match; ordinary patterns need a few for each character.
constexpr uint32_t kMatchLimit = 2'000'000;
constexpr uint32_t kHeapLimitKiB = 256 * 1024;
constexpr size_t kMaxPatternBytes = size_t{64} * 1024;

// The machine code's stack: its own, as the thread's may be small.
constexpr size_t kJitStackStart = size_t{32} * 1024;
constexpr size_t kJitStackLimit = size_t{16} * 1024 * 1024;

struct Deleter {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_compile_context* p) const { pcre2_compile_context_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
template <typename T>
using Handle = std::unique_ptr<T, Deleter>;

std::string error_text(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

// What a search needs beside the pattern; one for each thread.
struct Scratch {
  Handle<pcre2_match_context> context{pcre2_match_context_create(nullptr)};
  Handle<pcre2_jit_stack> stack{pcre2_jit_stack_create(kJitStackStart, kJitStackLimit, nullptr)};
  Handle<pcre2_match_data> data{pcre2_match_data_create(1, nullptr)};
  Scratch() {
    TORCH_INTERNAL_ASSERT(context && data);
    pcre2_set_match_limit(context.get(), kMatchLimit);
    pcre2_set_heap_limit(context.get(), kHeapLimitKiB);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

Scratch& scratch() {
  thread_local Scratch instance;
  return instance;
}

}  // namespace

struct Regex::Code {
  std::string pattern;
  Handle<pcre2_code> code;
};

Regex::Regex(std::string_view pattern) {
  TORCH_CHECK_VALUE(pattern.size() <= kMaxPatternBytes, "[Regex] expected at most ",
                    kMaxPatternBytes, " bytes of pattern, got ", pattern.size());
  const std::string translated = translate_oniguruma(pattern);
  Handle<pcre2_compile_context> context(pcre2_compile_context_create(nullptr));
  TORCH_INTERNAL_ASSERT(context);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int error = 0;
  size_t offset = 0;
  Handle<pcre2_code> code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                    // In Oniguruma ^ and $ match at every line.
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error,
                    &offset, context.get()));
  TORCH_CHECK_VALUE(code, "[Regex] expected a regular expression, got \"", pattern.substr(0, 200),
                    "\": ", error_text(error));
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);  // without it matching is only slower
  code_ = std::make_shared<Code>(Code{std::string(pattern), std::move(code)});
}

std::vector<Span> Regex::find_all(std::string_view text) const {
  const Scratch& s = scratch();
  std::vector<Span> matches;
  size_t from = 0;
  while (from <= text.size()) {
    const int result =
        pcre2_match(code_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                    PCRE2_NO_UTF_CHECK, s.data.get(), s.context.get());
    if (result == PCRE2_ERROR_NOMATCH) break;
    TORCH_CHECK_VALUE(result >= 0, "[Regex] cannot match \"", code_->pattern.substr(0, 200),
                      "\" at byte ", from, " of a text of ", text.size(), ": ", error_text(result));
    const size_t* found = pcre2_get_ovector_pointer(s.data.get());
    // \K in a lookahead may set the start behind the end.
    TORCH_CHECK_VALUE(found[0] <= found[1] && found[0] >= from,
                      "[Regex] expected matches in order, "
                      "got one that goes back, of \"",
                      code_->pattern.substr(0, 200), "\"");
    const Span match{found[0], found[1]};
    if (match.begin == match.end && !matches.empty() && matches.back().end == match.end) {
      from += from < text.size() ? code_point_at(text, from).length : 1;
      continue;
    }
    matches.push_back(match);
    from = match.end;
  }
  return matches;
}

}  // namespace schmidt::text
