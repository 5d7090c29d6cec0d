#include "schmidt/pipeline/output_folder.h"

#include "schmidt/base/atomic_file.h"
#include "schmidt/parallel/ranks.h"

namespace schmidt::pipeline {

namespace fs = std::filesystem;

fs::path output_folder(const std::string& out, const std::vector<fs::path>& beside,
                       const std::vector<InputPath>& inputs) {
  const fs::path place = resolved_place(out);
  if (parallel::rank() != 0) return place;
  std::vector<fs::path> places = {place, partial_folder(place)};
  places.insert(places.end(), beside.begin(), beside.end());
  check_apart(places, inputs);
  check_apart_from_each_other(places);
  return place;
}

std::vector<InputPath> inputs_of(const std::string& what, const std::vector<std::string>& paths) {
  std::vector<InputPath> inputs;
  for (const std::string& path : paths) inputs.push_back({what, path});
  return inputs;
}

}  // namespace schmidt::pipeline
