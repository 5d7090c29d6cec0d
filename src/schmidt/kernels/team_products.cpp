#include "schmidt/kernels/team_products.h"

#include <algorithm>
#include <type_traits>

#include "schmidt/kernels/add.h"
#include "schmidt/kernels/fast_path.h"
#include "schmidt/kernels/gemv.h"
#include "schmidt/kernels/row_kernel.h"

namespace schmidt::kernels {
namespace {

/// Outputs of a share fill whole lines of memory, so that hardly any two members write to one.
constexpr int64_t kUnit = 32;

template <typename T>
T* at(void* memory, int64_t numbers) {
  return static_cast<T*>(memory) + numbers;
}

/// The rows of x in float32, behind each other.
template <typename T>
const float* widened(const TeamRows& rows, int64_t n, std::vector<float>& numbers) {
  const T* const x = static_cast<const T*>(rows.x);
  if constexpr (std::is_same_v<T, float>) {
    if (rows.rows == 1 || rows.x_stride == n) return x;
  }
  numbers.resize(rows.rows * n);
  for (int64_t row = 0; row < rows.rows; ++row) {
    std::copy_n(x + row * rows.x_stride, n, numbers.data() + row * n);
  }
  return numbers.data();
}

template <typename T>
class Dense : public TeamProduct {
 public:
  Dense(torch::Tensor w, std::optional<torch::Tensor> bias)
      : TeamProduct(w.size(0), w.size(1)), w_(std::move(w)), bias_(std::move(bias)) {}

  int64_t bytes() const override { return static_cast<int64_t>(w_.nbytes()); }

  void run(const Member& member, const TeamRows& rows, TeamScratch& /*scratch*/) const override {
    const GemvProblem<T> problem{.x = static_cast<const T*>(rows.x),
                                 .w = w_.const_data_ptr<T>(),
                                 .bias = bias_ ? bias_->const_data_ptr<T>() : nullptr,
                                 .y = static_cast<T*>(rows.y),
                                 .rows = rows.rows,
                                 .m = m(),
                                 .n = n(),
                                 .x_stride = rows.x_stride,
                                 .w_stride = w_.stride(0),
                                 .y_stride = rows.y_stride};
    RowKernel<T> kernel = row_kernel(problem);
    const bool fits = !kernel.pairs || (n() % 2 == 0 && rows.x_stride % 2 == 0);
    if (kernel.run == nullptr || !fits) kernel = {.run = gemv_kernel<T>()};
    const auto [begin, end] = member.share(m(), std::max(kUnit, kernel.unit));
    if (begin < end) kernel.run(problem, begin, end);
  }

 private:
  torch::Tensor w_;
  std::optional<torch::Tensor> bias_;
};

template <typename T>
class Quantized : public TeamProduct {
 public:
  explicit Quantized(const QuantizedWeight& w) : TeamProduct(w.m, w.n), w_(w) {}

  int64_t bytes() const override { return m() * w_.row_words() * int64_t{sizeof(uint32_t)}; }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    const auto [begin, end] = member.share(m(), kUnit);
    if (begin >= end) return;
    round_rows(w_, widened<T>(rows, n(), scratch.numbers), rows.rows, scratch.rounded);
    multiply_int8(w_, scratch.rounded, begin, end,
                  Outputs<T>{static_cast<T*>(rows.y), rows.y_stride});
  }

 private:
  QuantizedWeight w_;
};

template <typename T>
class Nf4 : public TeamProduct {
 public:
  explicit Nf4(const Nf4Weight& w) : TeamProduct(w.m, w.n), w_(w) {}

  int64_t bytes() const override { return m() * n() / 2; }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    const auto [begin, end] = member.share(m(), kUnit);
    if (begin >= end) return;
    const float* const x = widened<T>(rows, n(), scratch.numbers);
    for (int64_t row = 0; row < rows.rows; row += kMostDotRows) {
      multiply_nf4(w_, x + row * n(), std::min(kMostDotRows, rows.rows - row), begin, end,
                   Outputs<T>{at<T>(rows.y, row * rows.y_stride), rows.y_stride}, scratch.sums);
    }
  }

 private:
  Nf4Weight w_;
};

/// A product in two halves, between which the team has to meet.
class Halved : public TeamProduct {
 public:
  using TeamProduct::TeamProduct;

  virtual void first(const Member& member, const TeamRows& rows, TeamScratch& scratch) const = 0;
  virtual void second(const Member& member, const TeamRows& rows, TeamScratch& scratch) const = 0;

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const final {
    first(member, rows, scratch);
    member.meet();
    second(member, rows, scratch);
  }
};

template <typename T>
class Chained : public Halved {
 public:
  Chained(TeamProductPtr left, TeamProductPtr right)
      : Halved(left->m(), right->n()), left_(std::move(left)), right_(std::move(right)) {
    TORCH_CHECK_VALUE(left_->n() == right_->m(), "[chained] expected matching products, got ",
                      left_->n(), " inputs behind ", right_->m(), " outputs");
  }

  int64_t between() const override { return rank() + right_->between() + left_->between(); }
  int64_t bytes() const override { return left_->bytes() + right_->bytes(); }

  void first(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    TeamRows of_right = rows;
    of_right.y = rows.between;
    of_right.y_stride = rank();
    of_right.between = behind_rank(rows);
    right_->run(member, of_right, scratch);
  }

  void second(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    TeamRows of_left = rows;
    of_left.x = rows.between;
    of_left.x_stride = rank();
    of_left.between = at<T>(behind_rank(rows), rows.rows * right_->between());
    left_->run(member, of_left, scratch);
  }

 private:
  int64_t rank() const { return even(right_->m()); }
  void* behind_rank(const TeamRows& rows) const { return at<T>(rows.between, rows.rows * rank()); }

  TeamProductPtr left_, right_;
};

int64_t outputs_of(const std::vector<TeamProductPtr>& parts) {
  int64_t m = 0;
  for (const TeamProductPtr& part : parts) m += part->m();
  return m;
}

int64_t between_of(const std::vector<TeamProductPtr>& parts) {
  int64_t numbers = 0;
  for (const TeamProductPtr& part : parts) numbers += part->between();
  return numbers;
}

int64_t bytes_of(const std::vector<TeamProductPtr>& parts) {
  int64_t bytes = 0;
  for (const TeamProductPtr& part : parts) bytes += part->bytes();
  return bytes;
}

/// Products in two halves have their first ones together, so that the team meets once for all.
template <typename T>
class SideBySide : public TeamProduct {
 public:
  explicit SideBySide(std::vector<TeamProductPtr> parts)
      : TeamProduct(outputs_of(parts), parts.front()->n()), parts_(std::move(parts)) {
    for (const TeamProductPtr& part : parts_) {
      halved_.push_back(dynamic_cast<const Halved*>(part.get()));
      any_halved_ = any_halved_ || halved_.back() != nullptr;
    }
  }

  int64_t between() const override { return between_of(parts_); }
  int64_t bytes() const override { return bytes_of(parts_); }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    for_each_part(rows, [&](size_t i, const TeamRows& of_part) {
      if (halved_[i] != nullptr) {
        halved_[i]->first(member, of_part, scratch);
      } else {
        parts_[i]->run(member, of_part, scratch);
      }
    });
    if (!any_halved_) return;
    member.meet();
    for_each_part(rows, [&](size_t i, const TeamRows& of_part) {
      if (halved_[i] != nullptr) halved_[i]->second(member, of_part, scratch);
    });
  }

 private:
  template <typename Take>
  void for_each_part(const TeamRows& rows, const Take& take) const {
    TeamRows of_part = rows;
    for (size_t i = 0; i < parts_.size(); ++i) {
      take(i, of_part);
      of_part.y = at<T>(of_part.y, parts_[i]->m());
      of_part.between = at<T>(of_part.between, rows.rows * parts_[i]->between());
    }
  }

  std::vector<TeamProductPtr> parts_;
  std::vector<const Halved*> halved_;  // null for those that are none
  bool any_halved_ = false;
};

/// Adds to y [rows, m] a member's share of others, once all of them are there.
template <typename T>
void add_share(const Member& member, const TeamRows& rows, int64_t m, const T* others,
               int64_t others_stride) {
  const auto [begin, end] = member.share(m, kUnit);
  for (int64_t row = 0; row < rows.rows && begin < end; ++row) {
    add(static_cast<T*>(rows.y) + row * rows.y_stride + begin, others + row * others_stride + begin,
        end - begin);
  }
}

template <typename T>
class Summed : public TeamProduct {
 public:
  explicit Summed(std::vector<TeamProductPtr> terms)
      : TeamProduct(terms.front()->m(), terms.front()->n()), terms_(std::move(terms)) {}

  int64_t between() const override {
    return (static_cast<int64_t>(terms_.size()) - 1) * even(m()) + between_of(terms_);
  }
  int64_t bytes() const override { return bytes_of(terms_); }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    const int64_t stride = even(m()), others = rows.rows * stride;
    TeamRows of_term = rows;
    of_term.between = at<T>(rows.between, (static_cast<int64_t>(terms_.size()) - 1) * others);
    T* next = static_cast<T*>(rows.between);
    for (const TeamProductPtr& term : terms_) {
      term->run(member, of_term, scratch);
      of_term.between = at<T>(of_term.between, rows.rows * term->between());
      of_term.y = next;
      of_term.y_stride = stride;
      next += others;
    }
    member.meet();
    const T* const outputs = static_cast<const T*>(rows.between);
    for (size_t i = 1; i < terms_.size(); ++i) {
      add_share(member, rows, m(), outputs + static_cast<int64_t>(i - 1) * others, stride);
    }
  }

 private:
  std::vector<TeamProductPtr> terms_;
};

template <typename T>
class Biased : public TeamProduct {
 public:
  Biased(TeamProductPtr product, torch::Tensor bias)
      : TeamProduct(product->m(), product->n()),
        product_(std::move(product)),
        bias_(std::move(bias)) {}

  int64_t between() const override { return product_->between(); }
  int64_t bytes() const override { return product_->bytes(); }

  void run(const Member& member, const TeamRows& rows, TeamScratch& scratch) const override {
    product_->run(member, rows, scratch);
    member.meet();
    add_share(member, rows, m(), bias_.const_data_ptr<T>(), 0);
  }

 private:
  TeamProductPtr product_;
  torch::Tensor bias_;
};

bool are_all_there(const std::vector<TeamProductPtr>& products) {
  return std::ranges::all_of(products, [](const TeamProductPtr& p) { return p != nullptr; });
}

template <template <typename> typename Product, typename... Args>
TeamProductPtr make(torch::ScalarType dtype, Args&&... args) {
  TeamProductPtr product;
  with_fast_type(dtype, [&]<typename T>(T* /*type*/) {
    product = std::make_unique<const Product<T>>(std::forward<Args>(args)...);
  });
  return product;
}

}  // namespace

bool team_products_are_fast() { return gemv_is_fast(); }

TeamProductPtr dense_team_product(const torch::Tensor& w,
                                  const std::optional<torch::Tensor>& bias) {
  return make<Dense>(w.scalar_type(), w, bias);
}

TeamProductPtr quantized_team_product(const QuantizedWeight& w, torch::ScalarType dtype) {
  return make<Quantized>(dtype, w);
}

TeamProductPtr nf4_team_product(const Nf4Weight& w, torch::ScalarType dtype) {
  return has_nf4_dots(w) ? make<Nf4>(dtype, w) : nullptr;
}

TeamProductPtr chained(TeamProductPtr left, TeamProductPtr right, torch::ScalarType dtype) {
  if (left == nullptr || right == nullptr) return nullptr;
  return make<Chained>(dtype, std::move(left), std::move(right));
}

TeamProductPtr side_by_side(std::vector<TeamProductPtr> parts, torch::ScalarType dtype) {
  if (!are_all_there(parts)) return nullptr;
  return make<SideBySide>(dtype, std::move(parts));
}

TeamProductPtr summed(std::vector<TeamProductPtr> terms, torch::ScalarType dtype) {
  if (!are_all_there(terms)) return nullptr;
  return make<Summed>(dtype, std::move(terms));
}

TeamProductPtr biased(TeamProductPtr product, const std::optional<torch::Tensor>& bias,
                      torch::ScalarType dtype) {
  if (product == nullptr || !bias) return product;
  if (bias->scalar_type() != dtype || !bias->is_contiguous()) return nullptr;
  return make<Biased>(dtype, std::move(product), *bias);
}

}  // namespace schmidt::kernels
