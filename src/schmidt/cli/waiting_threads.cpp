// How the threads of a product wait for the next one.
//
// OpenMP's threads spin where they wait, for milliseconds, as if nobody else needed the core.
// Beside another busy program a waiting thread then keeps the core from the one that is waited
// for: decoding beside a second schmidt fell to 0.17 of its speed. A thousand turns, some
// microseconds, bridge the gap between two products of a token; after them a thread sleeps.
// docs/inference_speed.md has the measurements.
//
// libgomp reads the number as the program is loaded, before main: it has to stand in the
// environment by then. So the program, once mapped and before the constructors of its libraries
// run, starts itself again with it. Nothing happens where the user has set either variable.

#if defined(__linux__)

#include <climits>
#include <cstddef>
#include <cstring>

#include <unistd.h>

namespace {

constexpr size_t kMostVariables = 4096;

bool is_set(const char* variable, const char* name) {
  const size_t length = strlen(name);
  return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

// Runs before constructors: nothing but system calls and memory of its own. Sanitizers are not
// there yet either.
[[gnu::no_sanitize("address", "thread", "undefined")]] void wait_briefly(int /*argc*/, char** argv,
                                                                         char** environment) {
  static char spin_count[] = "GOMP_SPINCOUNT=1000";
  static char* extended[kMostVariables + 2];
  static char path[PATH_MAX];  // zeros at first
  size_t count = 0;
  for (; environment[count] != nullptr; ++count) {
    const char* const variable = environment[count];
    if (count == kMostVariables || is_set(variable, "GOMP_SPINCOUNT") ||
        is_set(variable, "OMP_WAIT_POLICY")) {
      return;
    }
    extended[count] = environment[count];
  }
  extended[count] = spin_count;
  // By its own path, from which the process takes its name. Where it fails the program goes on as
  // it is.
  if (readlink("/proc/self/exe", path, sizeof(path) - 1) > 0) execve(path, argv, extended);
}

[[gnu::used, gnu::section(".preinit_array")]] void (*const at_start)(int, char**,
                                                                     char**) = wait_briefly;

}  // namespace

#endif
