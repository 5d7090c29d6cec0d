#include "schmidt/base/processor.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <utility>

#include <sched.h>
#include <unistd.h>

#include "schmidt/base/control_group.h"

namespace schmidt {
namespace {

std::string value_of(const std::string& line) {
  const size_t colon = line.find(':');
  if (colon == line.npos) return "";
  const size_t start = line.find_first_not_of(" \t", colon + 1);
  return start == line.npos ? "" : line.substr(start);
}

double processors_of_affinity(int64_t all) {
  cpu_set_t set;
  CPU_ZERO(&set);
  // A machine beyond the set's 1024 is refused here.
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return static_cast<double>(all);
  return static_cast<double>(CPU_COUNT(&set));
}

}  // namespace

ProcessorFacts processor_facts() {
  ProcessorFacts facts;
  std::ifstream file("/proc/cpuinfo");
  std::set<std::pair<std::string, std::string>> cores;
  std::string socket;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("model name") && facts.name.empty()) facts.name = value_of(line);
    if (line.starts_with("physical id")) socket = value_of(line);
    if (line.starts_with("core id")) cores.emplace(socket, value_of(line));
  }
  facts.cores = static_cast<int64_t>(cores.size());
  facts.threads = ::sysconf(_SC_NPROCESSORS_ONLN);
  facts.usable = processors_of_affinity(facts.threads);
  facts.usable = std::min(facts.usable, group_limits().processors.value_or(facts.usable));
  return facts;
}

}  // namespace schmidt
