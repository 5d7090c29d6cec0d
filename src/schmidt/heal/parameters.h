#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <torch/types.h>

#include "schmidt/io/checkpoint.h"
#include "schmidt/model/named_tensor.h"
#include "schmidt/model/weights.h"

namespace schmidt::heal {

/// Which tensors of a model are trained.
struct TrainedParts {
  bool factors = true;     ///< of compressed weights: cores of tensor networks, scales of integers
  bool dense = true;       ///< weights of the blocks that are not compressed
  bool norms = true;       ///< vectors: norms and biases
  bool embedding = false;  ///< embedding and output layer that are not compressed
  bool codes = false;      ///< of integers of few bits
  bool zeros = false;      ///< their zero points

  bool contains(const model::NamedTensor& tensor) const;
};

/// How a student is loaded whose parts are trained: in the full gauge, integers as what they are
/// rounded from, codes from where a teacher's weights lie around them.
model::LoadOptions to_train(model::LoadOptions load, const TrainedParts& parts,
                            const std::optional<io::Checkpoint>& teacher);

/// Trained tensors as slices of one vector: float32 masters, which an optimizer
/// updates, and the sum of their gradients. The model computes with the masters
/// rounded to its own dtype.
///
///   values    [ embedding | .. block 0 .. | .. block 1 .. | .. ]     float32
///   gradient  [ embedding | .. block 0 .. | .. block 1 .. | .. ]     float32
///
/// In the order of the computation: a backward pass finishes them from the end.
class Parameters {
 public:
  struct Piece {
    std::string name;
    torch::Tensor leaf;  ///< of the model, in its dtype
    int64_t offset = 0;
    bool decays = false;  ///< matrices and cores do, vectors do not
    int64_t end() const { return offset + leaf.numel(); }
  };

  /// `leaves` in the order of the computation; `masters` are the same tensors in
  /// float32 (may be the leaves themselves). Leaves that are not trained lose their
  /// requires_grad; a part of a model may hold none that are.
  Parameters(const std::vector<model::NamedTensor>& leaves,
             const std::vector<model::NamedTensor>& masters, const TrainedParts& parts);
  ~Parameters();
  Parameters(const Parameters&) = delete;
  Parameters& operator=(const Parameters&) = delete;

  const std::vector<Piece>& pieces() const { return pieces_; }
  int64_t numel() const { return values_.numel(); }

  const torch::Tensor& values() const { return values_; }      ///< float32 [numel]
  const torch::Tensor& gradient() const { return gradient_; }  ///< float32 [numel]

  /// A piece's values in the leaf's shape, sharing memory with `values`.
  torch::Tensor value_of(const Piece& piece) const;

  /// Overwrites the values under these names; others are ignored.
  /// Throws c10::ValueError for a tensor of another shape.
  void set(const std::map<std::string, torch::Tensor>& values);

  /// Rounds `values` into the model.
  void write_to_model();

  /// Called, while a backward pass runs, with the index of a piece whose gradient of
  /// this pass is in `gradient`.
  void on_gradient(std::function<void(size_t piece)> ready) { ready_ = std::move(ready); }

 private:
  class Hook;

  std::vector<Piece> pieces_;
  torch::Tensor values_, gradient_;
  std::function<void(size_t)> ready_;
};

}  // namespace schmidt::heal
