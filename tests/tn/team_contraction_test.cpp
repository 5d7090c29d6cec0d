// Contractions by a team of threads, against the matrix of the network, along plans of every kind.

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "schmidt/kernels/contracted_product.h"
#include "schmidt/kernels/team_products.h"
#include "schmidt/tn/contraction.h"

#include "tests/tn/random_mpo.h"

namespace schmidt::tn {
namespace {

using Dims = std::vector<int64_t>;

struct Case {
  SiteShape shape;
  Dims bonds;
  std::vector<CoreSpan> spans;
};

const std::vector<Case> kCases = {
    {{{12}, {10}}, {}, {{0, 1}}},
    {{{40, 1}, {1, 33}}, {7}, {{1, 2}, {0, 1}}},
    {{{700, 1}, {1, 64}}, {65}, {{1, 2}, {0, 1}}},
    {{{6, 5}, {4, 9}}, {3}, {{1, 2}, {0, 1}}},
    {{{6, 5}, {4, 9}}, {3}, {{0, 1}, {1, 2}}},
    {{{6, 5}, {4, 9}}, {3}, {{0, 2}}},
    {{{24, 32}, {24, 24}}, {60}, {{1, 2}, {0, 1}}},
    {{{3, 4, 5}, {2, 7, 3}}, {5, 4}, {{2, 3}, {1, 2}, {0, 1}}},
    {{{3, 4, 5}, {2, 7, 3}}, {5, 4}, {{0, 1}, {1, 2}, {2, 3}}},
    {{{3, 4, 5}, {2, 7, 3}}, {5, 4}, {{1, 2}, {2, 3}, {0, 1}}},
    {{{3, 4, 5}, {2, 7, 3}}, {5, 4}, {{1, 2}, {0, 1}, {2, 3}}},
    {{{3, 4, 5}, {2, 7, 3}}, {5, 4}, {{1, 3}, {0, 1}}},
    {{{3, 4, 5}, {2, 7, 3}}, {1, 1}, {{1, 2}, {0, 1}, {2, 3}}},
    {{{1, 4, 1}, {2, 1, 3}}, {2, 3}, {{2, 3}, {1, 2}, {0, 1}}},
    {{{3, 2, 4, 2}, {2, 3, 2, 5}}, {3, 6, 4}, {{1, 2}, {2, 3}, {0, 1}, {3, 4}}},
    {{{3, 2, 4, 2}, {2, 3, 2, 5}}, {3, 6, 4}, {{2, 4}, {1, 2}, {0, 1}}},
};

torch::Tensor by_team(const kernels::TeamProduct& product, const torch::Tensor& x,
                      torch::Tensor y) {
  const torch::Tensor between = at::empty({x.size(0), product.between()}, x.options());
  kernels::run_team(/*alone=*/false, [&](const kernels::Member& member) {
    kernels::TeamScratch scratch;
    const kernels::TeamRows rows{.x = x.const_data_ptr(),
                                 .y = y.mutable_data_ptr(),
                                 .between = between.mutable_data_ptr(),
                                 .rows = x.size(0),
                                 .x_stride = x.stride(0),
                                 .y_stride = y.stride(0)};
    product.run(member, rows, scratch);
    member.meet();
    product.run(member, rows, scratch);  // again, in memory that was used before
  });
  return y;
}

TEST(TeamContraction, IsTheProductWithTheMatrix) {
  const int before = at::get_num_threads();
  torch::manual_seed(3);
  for (const auto dtype : {torch::kFloat32, torch::kBFloat16}) {
    for (size_t i = 0; i < kCases.size(); ++i) {
      const auto& [shape, bonds, spans] = kCases[i];
      const Mpo mpo = random_mpo(shape, bonds, dtype);
      const auto product =
          kernels::contracted_team_product(contraction_steps(mpo.cores(), {spans, 0.0}), dtype);
      ASSERT_EQ(product->m(), mpo.rows());
      ASSERT_EQ(product->n(), mpo.cols());
      std::vector<torch::Tensor> exact;
      for (const torch::Tensor& core : mpo.cores()) exact.push_back(core.to(at::kDouble));
      const torch::Tensor w = dense_by_definition(Mpo(exact));
      for (const int threads : {1, 2, 3}) {
        at::set_num_threads(threads);
        for (const int64_t rows : {1, 2, 5, 8}) {
          const torch::Tensor x =
              at::randn({rows, mpo.cols() + 3}).to(dtype).narrow(1, 0, mpo.cols());
          const torch::Tensor room = at::full({rows, mpo.rows() + 5}, 7.0).to(dtype);
          const torch::Tensor y = by_team(*product, x, room.narrow(1, 0, mpo.rows()));
          const torch::Tensor expected = at::matmul(x.to(at::kDouble), w.t());
          const double error = (y.to(at::kDouble) - expected).norm().item<double>();
          const double bound = dtype == torch::kFloat32 ? 1e-5 : 2e-2;
          EXPECT_LE(error, bound * expected.norm().item<double>())
              << "case " << i << ", " << rows << " rows, " << threads << " threads";
          EXPECT_TRUE(room.narrow(1, mpo.rows(), 5).eq(7.0).all().item<bool>()) << "case " << i;
        }
      }
    }
  }
  at::set_num_threads(before);
}

TEST(TeamContraction, RefusesMatricesOfAnotherType) {
  const Mpo mpo = random_mpo({{3, 2}, {2, 3}}, {2}, torch::kFloat32);
  const auto steps = contraction_steps(mpo.cores(), plan_contraction(mpo.shape(), mpo.bonds(), 1));
  EXPECT_THROW(kernels::contracted_team_product(steps, torch::kBFloat16), c10::ValueError);
  EXPECT_THROW(kernels::contracted_team_product({}, torch::kFloat32), c10::ValueError);
}

}  // namespace
}  // namespace schmidt::tn
