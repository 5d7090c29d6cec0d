#pragma once

#include <cstdint>
#include <string>

namespace schmidt {

/// The processor as the system describes it.
struct ProcessorFacts {
  std::string name;     ///< empty where the system does not say
  int64_t cores = 0;    ///< physical ones; 0 where it does not say
  int64_t threads = 0;  ///< that can run at once
  double usable = 0.0;  ///< of these by this process: its affinity, its control groups
};

ProcessorFacts processor_facts();

}  // namespace schmidt
