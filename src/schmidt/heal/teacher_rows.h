#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>

#include <torch/types.h>

#include "schmidt/heal/batch.h"
#include "schmidt/heal/loss.h"
#include "schmidt/model/model.h"

namespace schmidt::heal {

/// int64 [counted]: the positions, numbered along the rows of a batch, whose next token
/// is to be learned.
torch::Tensor counted_positions(const Batch& batch);

/// The rows begin .. begin + count - 1 of a batch.
Batch narrow_rows(const Batch& batch, int64_t begin, int64_t count);

/// The teacher at the counted positions of rows of a run, which number from `first_row`
/// on. All rows of a run's batches have numbers, one after the other.
using TeacherRows =
    std::function<Teacher(const Batch& rows, const torch::Tensor& counted, int64_t first_row)>;

/// Computes as it is asked. Does not own the model.
TeacherRows live_teacher(const model::Model& model);

/// The teacher's k likeliest tokens at every position of a run's rows, on disk, 6 k
/// bytes a position: made before the run, so that the teacher need not stay in memory.
class StoredTeacher {
 public:
  /// Makes room for `rows` rows of `context` positions in `folder`, or finds what an
  /// earlier run stored there. Throws SystemError, a full disk included.
  StoredTeacher(std::filesystem::path folder, int64_t rows, int64_t context, int64_t k);

  /// Whether a path is that of the record of rows that are stored.
  static bool is_record(const std::filesystem::path& path) {
    return path.filename() == "stored.json";
  }

  int64_t stored() const { return stored_; }  ///< rows, from the first

  /// Stores rows that follow those stored. hidden [rows, context, hidden]: the teacher's,
  /// after the final norm. Throws SystemError.
  void append(const model::Model& teacher, const torch::Tensor& hidden);

  TeacherRows rows() const;

 private:
  std::filesystem::path folder_;
  int64_t rows_, context_, k_;
  int64_t stored_ = 0;
};

}  // namespace schmidt::heal
