#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/calibrate/workers.h"
#include "schmidt/io/tensor_spill.h"

namespace schmidt::calibrate {

/// A text as it goes through a model: batches of rows of tokens, of which each worker has some.
struct TextBatches {
  struct Shape {
    int64_t rows = 0, tokens = 0;  ///< tokens of a row
  };
  std::vector<Shape> shapes;  ///< of every batch
  std::vector<int64_t> own;   ///< the batches of this worker, ascending

  /// windows int64 [windows, t], `batch` of them in each but the last batch.
  static TextBatches of(const torch::Tensor& windows, int64_t batch, const Workers& workers = {});

  /// The first window of a batch.
  int64_t begin(int64_t batch) const;
};

/// Bytes of activations that a process holds in memory where nobody says otherwise: 2 GiB, or a
/// quarter of what memory is left.
int64_t default_activation_memory();

struct ActivationOptions {
  std::optional<int64_t> memory;  ///< bytes for activations, beyond which they lie on disk
  double save_after = 300.0;  ///< seconds of work after which a place is saved, for a killed run
};

class ActivationStream;

/// Gives the streams of a text their place: in memory as far as that reaches, beyond it in
/// files of a folder, which is made when it is needed.
class ActivationSpace {
 public:
  /// dtype: of the activations; device: on which they are read.
  ActivationSpace(TextBatches batches, std::filesystem::path folder, torch::ScalarType dtype,
                  torch::Device device, std::optional<int64_t> memory = std::nullopt);

  const TextBatches& batches() const;

  /// A new stream of states [.., width]. Its file, where it needs one, is called `name`: workers
  /// who call a stream alike share it. Room on the disk is claimed now.
  /// Throws SystemError, a full disk included.
  ActivationStream make(const std::string& name, int64_t width) const;

  /// The stream that an earlier run has kept under that name. Throws FormatError if it is not
  /// there, or is of another text or width.
  ActivationStream kept(const std::string& name, int64_t width) const;

  struct State;

 private:
  std::shared_ptr<State> state_;
};

/// The states of a text at one place of a model, a tensor [rows, tokens, width] for each batch of
/// this worker. Written once, batch by batch. Its file goes when the stream goes, unless kept.
class ActivationStream {
 public:
  ActivationStream() = default;
  ActivationStream(ActivationStream&&) = default;
  ActivationStream& operator=(ActivationStream&&) = default;

  const std::string& name() const;
  bool in_memory() const;

  /// Throw c10::ValueError for a batch of another worker, another shape or dtype, or one that
  /// has not been written; SystemError.
  void write(int64_t batch, const torch::Tensor& states);
  torch::Tensor read(int64_t batch) const;  ///< not to be written to: it may be what is held
  torch::Tensor take(int64_t batch);        ///< for the last time: what was held is given away

  /// Has all batches of this worker on the disk, for a run that comes after a kill: returns when
  /// they are there. A worker's part; `kept` wants all.
  void keep();

 private:
  friend class ActivationSpace;
  struct Held;
  explicit ActivationStream(std::shared_ptr<Held> held) : held_(std::move(held)) {}
  std::shared_ptr<Held> held_;
};

}  // namespace schmidt::calibrate
