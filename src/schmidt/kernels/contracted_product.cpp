#include "schmidt/kernels/contracted_product.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <tuple>

#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/panel_gemm.h"
#include "schmidt/kernels/team_products.h"

namespace schmidt::kernels {
namespace {

/// A number's place among [P, M, S].
struct Place {
  int64_t left, middle, right;
};

Place place_of(int64_t number, int64_t middle, int64_t right) {
  return {number / right / middle, number / right % middle, number % right};
}

/// Numbers 0 .. count - 1 in the order of their keys.
template <typename Key>
std::vector<int64_t> ordered(int64_t count, const Key& key) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, {}, key);
  return order;
}

torch::Tensor in_order(const torch::Tensor& matrix, int64_t dim,
                       const std::vector<int64_t>& order) {
  return at::index_select(matrix, dim, at::tensor(order, torch::kInt64));
}

/// Outputs of one step and inputs of the next are the same numbers. Put in an order in which those
/// that the next step sums over are neighbours, they are copied in runs.
struct Meeting {
  std::vector<int64_t> outputs;  ///< those of the step before, in their new order
  std::vector<int64_t> inputs;   ///< those of the next
};

Meeting meeting_of(const ContractionStep& before, const ContractionStep& next) {
  const int64_t r = before.matrix.size(0), q = next.matrix.size(1);
  return {ordered(r,
                  [&](int64_t output) {
                    const Place p = place_of(output * before.right, q, next.right);
                    return std::tuple(p.left, p.right, p.middle);
                  }),
          ordered(q, [&](int64_t input) {
            const Place p = place_of(input * next.right, r, before.right);
            return std::tuple(p.left, p.right, p.middle);
          })};
}

/// A step as a product of rows, one for each pair of P and S.
struct RowStep {
  torch::Tensor matrix;  ///< [R, Q], undefined where there are panels
  torch::Tensor panels;  ///< packed_panels() of it
  int64_t inputs, outputs, left, right;
  /// The inputs of row (p, s) begin at from_left[p] + from_right[s] among what the step before has
  /// written, or in x itself. Runs of them begin at `runs` from there on.
  std::vector<int64_t> from_left, from_right, runs;
  int64_t run = 1;        ///< numbers in each
  int64_t x_numbers = 0;  ///< of a token there
  int64_t begin = 0;      ///< of its outputs in `between`, for each token

  int64_t x_stride() const { return even(inputs); }
  int64_t y_stride() const { return even(outputs); }
  int64_t rows() const { return left * right; }  ///< of a token
  int64_t numbers() const { return rows() * y_stride(); }
};

/// Fewest outputs that are shared out among members. Where there are fewer, rows are, if there are
/// enough of them.
constexpr int64_t kSharedOutputs = 512;

/// Through the steps one after the other; the team meets between two.
template <typename T>
class Contracted : public TeamProduct {
 public:
  explicit Contracted(std::vector<ContractionStep> steps)
      : TeamProduct(steps.back().left * steps.back().matrix.size(0) * steps.back().right,
                    steps.front().left * steps.front().matrix.size(1) * steps.front().right) {
    Meeting meeting;               // of a step and the one before it
    std::vector<int64_t> written;  // places of the outputs of the step before
    meeting.inputs = ordered(steps.front().matrix.size(1), std::identity());
    for (size_t i = 0; i < steps.size(); ++i) {
      const std::vector<int64_t> inputs = std::move(meeting.inputs);
      ContractionStep& step = steps[i];
      meeting = i + 1 < steps.size() ? meeting_of(step, steps[i + 1]) : Meeting();
      if (i > 0) step.matrix = in_order(step.matrix, 1, inputs);
      if (i + 1 < steps.size()) step.matrix = in_order(step.matrix, 0, meeting.outputs);
      add(step, inputs, written);
      written.assign(meeting.outputs.size(), 0);
      for (size_t k = 0; k < meeting.outputs.size(); ++k) {
        written[static_cast<size_t>(meeting.outputs[k])] = static_cast<int64_t>(k);
      }
    }
  }

  int64_t between() const override { return between_; }

  int64_t bytes() const override {
    int64_t bytes = 0;
    for (const RowStep& step : steps_) {
      bytes += step.inputs * step.outputs * static_cast<int64_t>(sizeof(T));
    }
    return bytes;
  }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    for (size_t i = 0; i < steps_.size(); ++i) {
      const RowStep& step = steps_[i];
      TeamRows of_step = rows;
      of_step.y = static_cast<T*>(rows.between) + rows.rows * step.begin;
      if (i > 0) {
        member.meet();
        of_step.x = static_cast<const T*>(rows.between) + rows.rows * steps_[i - 1].begin;
        of_step.x_stride = step.x_numbers;
      }
      const Part part = part_of(step, member, rows.rows);
      if (part.rows.empty() || part.outputs.empty()) continue;
      multiply(step, part, of_step, scratch);
      if (i + 1 == steps_.size()) put_down(step, part, static_cast<const T*>(of_step.y), rows);
    }
  }

 private:
  /// What a member computes of a step: rows of all tokens, and outputs of each.
  struct Part {
    Share rows, outputs;
  };

  /// `inputs` in the order in which the step's matrix has them, `written` as the step before has
  /// written its outputs; empty for the first step, which reads x.
  void add(const ContractionStep& step, const std::vector<int64_t>& inputs,
           const std::vector<int64_t>& written) {
    RowStep next{.matrix = step.matrix.contiguous(),
                 .panels = {},
                 .inputs = step.matrix.size(1),
                 .outputs = step.matrix.size(0),
                 .left = step.left,
                 .right = step.right,
                 .from_left = {},
                 .from_right = {},
                 .runs = {}};
    next.panels = packed_panels(next.matrix);
    if (next.panels.defined()) next.matrix = torch::Tensor();
    // Legs are never split by one step and joined by the next: each of these counts for itself.
    const auto place = [&](int64_t number) {
      if (steps_.empty()) return number;
      const RowStep& before = steps_.back();
      const Place p = place_of(number, before.outputs, before.right);
      return (p.left * before.right + p.right) * before.y_stride() +
             written[static_cast<size_t>(p.middle)];
    };
    for (int64_t p = 0; p < next.left; ++p) {
      next.from_left.push_back(place(p * next.inputs * next.right));
    }
    for (int64_t s = 0; s < next.right; ++s) next.from_right.push_back(place(s));
    for (const int64_t q : inputs) next.runs.push_back(place(q * next.right));
    next.run = run_of(next.runs);
    std::vector<int64_t> begins;
    for (size_t q = 0; q < next.runs.size(); q += static_cast<size_t>(next.run)) {
      begins.push_back(next.runs[q]);
    }
    next.runs = std::move(begins);
    next.x_numbers = steps_.empty() ? 0 : steps_.back().numbers();
    next.begin = between_;
    between_ += next.numbers();
    steps_.push_back(std::move(next));
  }

  /// The largest count of neighbours that all of them, in parts of as many, are.
  static int64_t run_of(const std::vector<int64_t>& places) {
    size_t run = 1;
    while (run < places.size() && places[run] == places[run - 1] + 1) ++run;
    if (places.size() % run != 0) return 1;
    for (size_t i = 0; i < places.size(); ++i) {
      if (i % run != 0 && places[i] != places[i - 1] + 1) return 1;
    }
    return static_cast<int64_t>(run);
  }

  static Part part_of(const RowStep& step, const Member& member, int64_t tokens) {
    const Share rows{0, tokens * step.rows()}, outputs{0, step.outputs};
    if (step.outputs < kSharedOutputs && rows.end >= member.size()) {
      return {member.share(rows.end), outputs};
    }
    return {rows, member.share(outputs.end, kPanelRowsOfW)};
  }

  /// Rows as products read them: an even number apart, a zero behind an odd one.
  static const T* gather(const RowStep& step, const Share& rows, const TeamRows& from,
                         TeamScratch& scratch) {
    const int64_t count = rows.end - rows.begin, stride = step.x_stride();
    const size_t bytes = static_cast<size_t>(count * stride) * sizeof(T);
    if (scratch.legs.size() < bytes) scratch.legs.resize(bytes);
    T* const all = reinterpret_cast<T*>(scratch.legs.data());
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t of_token = row % step.rows();
      const T* const x = static_cast<const T*>(from.x) + row / step.rows() * from.x_stride +
                         step.from_left[static_cast<size_t>(of_token / step.right)] +
                         step.from_right[static_cast<size_t>(of_token % step.right)];
      T* to = all + (row - rows.begin) * stride;
      if (step.run == 1) {
        for (const int64_t place : step.runs) *to++ = x[place];
      } else {
        for (const int64_t place : step.runs) to = std::copy_n(x + place, step.run, to);
      }
      if (stride != step.inputs) *to = T(0);
    }
    return all;
  }

  static void multiply(const RowStep& step, const Part& part, const TeamRows& rows,
                       TeamScratch& scratch) {
    GemvProblem<T> problem{.x = gather(step, part.rows, rows, scratch),
                           .y = static_cast<T*>(rows.y) + part.rows.begin * step.y_stride(),
                           .rows = part.rows.end - part.rows.begin,
                           .m = step.outputs,
                           .n = step.inputs,
                           .x_stride = step.x_stride(),
                           .w_stride = step.inputs,
                           .y_stride = step.y_stride()};
    if (step.panels.defined()) {
      multiply_panels(step.panels, problem, part.outputs.begin, part.outputs.end);
    } else {
      problem.w = step.matrix.template const_data_ptr<T>();
      gemv_kernel<T>()(problem, part.outputs.begin, part.outputs.end);
    }
  }

  /// A part of the last step's outputs to their places in y.
  static void put_down(const RowStep& step, const Part& part, const T* from, const TeamRows& rows) {
    for (int64_t row = part.rows.begin; row < part.rows.end; ++row) {
      const Place place = place_of(row, step.left, step.right);  // token, P, S
      T* const y = static_cast<T*>(rows.y) + place.left * rows.y_stride +
                   place.middle * step.outputs * step.right + place.right;
      const T* const outputs = from + row * step.y_stride();
      for (int64_t r = part.outputs.begin; r < part.outputs.end; ++r) {
        y[r * step.right] = outputs[r];
      }
    }
  }

  std::vector<RowStep> steps_;
  int64_t between_ = 0;
};

}  // namespace

TeamProductPtr contracted_team_product(std::vector<ContractionStep> steps,
                                       torch::ScalarType dtype) {
  TORCH_CHECK_VALUE(!steps.empty(), "[contracted] expected one step or more, got none");
  for (const ContractionStep& step : steps) {
    TORCH_CHECK_VALUE(
        step.matrix.dim() == 2 && step.matrix.scalar_type() == dtype && fast_types({&step.matrix}),
        "[contracted] expected matrices of ", dtype, " on the CPU, got ", step.matrix.scalar_type(),
        " ", step.matrix.sizes());
  }
  TeamProductPtr product;
  with_fast_type(dtype, [&]<typename T>(T* /*type*/) {
    product = std::make_unique<const Contracted<T>>(std::move(steps));
  });
  return product;
}

}  // namespace schmidt::kernels
