#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>
#include <torch/types.h>

#include "schmidt/base/file_system.h"
#include "schmidt/heal/parameters.h"

namespace schmidt::heal {

/// Where a run stands between two steps, its parameters and moments aside.
struct RunState {
  int64_t step = 0;       ///< steps done
  nlohmann::json stream;  ///< of the data
  nlohmann::json before;  ///< held-out loss before the first step
  double best_loss = std::numeric_limits<double>::infinity();  ///< on the held-out set
  int64_t best_step = 0;
  int64_t waited = 0;      ///< evaluations since the best one
  double seconds = 0.0;    ///< of work so far
  int64_t not_finite = 0;  ///< steps in a row whose loss or gradient was not finite
};

/// An optimizer's moments of all parameters, whoever owns them, in pieces of float32 of
/// which no more than one need be in memory.
struct Moments {
  struct Piece {
    torch::Tensor first, second;
  };
  int64_t steps = 0;
  std::vector<int64_t> sizes;                ///< of the pieces
  std::function<Piece(size_t index)> piece;  ///< `save` asks for each once, in order
};

struct SavedRun {
  RunState state;
  Moments moments;
};

/// Saved states of one run, and the best parameters so far, in a folder. A state is
/// whole or absent. One rank saves; all may load.
class StateStore {
 public:
  explicit StateStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  /// Whether a path is that of a whole state.
  static bool is_state(const std::filesystem::path& path);

  /// Beside the states before. Throws SystemError from the disk, and what `piece` throws.
  void save(const RunState& state, const Parameters& parameters, const Moments& moments) const;

  /// Drops all states but that of one step.
  void keep_only(int64_t step) const;

  /// Drops the whole folder.
  void remove() const { remove_tree(folder_); }

  /// Steps done in the last state; none where there is none.
  std::optional<int64_t> last_step() const;

  /// Reads the state of a step back, its parameters into `parameters`. The moments' pieces,
  /// of the sizes that they were saved in, come from the disk as they are asked for.
  /// Throws FormatError if files are missing or broken.
  SavedRun load(int64_t step, const Parameters& parameters, std::vector<int64_t> sizes) const;

  /// The parameters as they are, in place of an earlier best. Throws SystemError.
  void save_best(const Parameters& parameters) const;

  /// Into `parameters`; false where none were saved.
  bool load_best(const Parameters& parameters) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace schmidt::heal
