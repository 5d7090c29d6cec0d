#include "schmidt/heal/trained_tensors.h"

#include "schmidt/io/mapped_file.h"
#include "schmidt/io/safetensors.h"

namespace schmidt::heal {

TrainedTensors::TrainedTensors(const std::vector<std::filesystem::path>& files) {
  for (const std::filesystem::path& file : files) {
    const io::MappedFile mapped(file);
    for (const auto& [name, entry] : io::parse_safetensors(mapped.bytes(), file).tensors) {
      files_.emplace(name, file);
    }
  }
}

void TrainedTensors::save(const std::filesystem::path& file, const Parameters& parameters) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  for (const Parameters::Piece& piece : parameters.pieces()) {
    tensors.emplace_back(piece.name, parameters.value_of(piece));
  }
  io::save_safetensors(file, tensors);
}

std::vector<std::string> TrainedTensors::names() const {
  std::vector<std::string> names;
  for (const auto& [name, file] : files_) names.push_back(name);
  return names;
}

torch::Tensor TrainedTensors::load(const std::string& name) const {
  return io::load_safetensors(files_.at(name), name).at(name);
}

}  // namespace schmidt::heal
