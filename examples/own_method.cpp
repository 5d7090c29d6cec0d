// Compresses a checkpoint by a method of one's own: low ranks from a randomized SVD.
//
//   usage: own_method MODEL OUT
//
// A method is a function from a weight and its plan to what is stored in its place. Everything else
// is the library's: which layers, which ranks, a run that goes on after a kill, the checkpoint.
#include <cstdio>
#include <exception>

#include <schmidt/schmidt.h>

using namespace schmidt;

namespace {

// W [m, n] -> A B of the planned rank. Halko, Martinsson, Tropp 2011, arXiv:0909.4061, Alg. 4.4.
compress::FittedWeight by_randomized_svd(const torch::Tensor& w, const plan::LayerPlan& plan,
                                         const compress::LayerInputs& /*inputs*/,
                                         const compress::MethodOptions& /*options*/) {
  const int64_t rank = plan.rank(), m = w.size(0), n = w.size(1);
  const torch::Tensor w32 = w.to(torch::kFloat32);
  const int64_t samples = std::min({rank + 8, m, n});
  torch::Tensor basis = at::matmul(w32, at::randn({n, samples}));  // [m, samples]
  for (int i = 0; i < 2; ++i) {
    basis = std::get<0>(at::linalg_qr(basis));
    basis = at::matmul(w32, at::matmul(w32.t(), basis));
  }
  basis = std::get<0>(at::linalg_qr(basis));
  const auto [u, s, vt] = at::linalg_svd(at::matmul(basis.t(), w32), /*full_matrices=*/false);
  const torch::Tensor left = at::matmul(basis, u.narrow(1, 0, rank) * s.narrow(0, 0, rank));
  const torch::Tensor right = vt.narrow(0, 0, rank);
  const double error = ((at::matmul(left, right) - w32).norm() / w32.norm()).item<double>();
  // A low rank is an MPO of two sites, (m, 1) x (1, n).
  const tn::Mpo mpo({left.reshape({1, m, 1, rank}).to(w.scalar_type()),
                     right.reshape({rank, 1, n, 1}).to(w.scalar_type())});
  return {model::mpo_weight(plan.layer.name, mpo), error};
}

const compress::Method kRandomizedSvd = {.name = "randomized-svd", .fit = by_randomized_svd};

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 3) return std::puts("usage: own_method MODEL OUT"), 2;
  compress::add_method(kRandomizedSvd);

  pipeline::CompressRecipe recipe;
  recipe.method = kRandomizedSvd.name;
  recipe.keep = 0.8;  // of the whole model's parameters
  recipe.shape.low_rank = true;
  const auto outcome = pipeline::compress_model(io::Checkpoint::open(argv[1]), recipe,
                                                {.out = argv[2], .force = true}, {});
  for (const auto& layer : outcome.result.layers) {
    std::printf("%-40s rank %4ld, weight error %.3f\n", layer.plan.layer.name.c_str(),
                static_cast<long>(layer.plan.rank()), layer.relative_error);
  }
  std::printf("kept %.1f %% of the parameters\n", 100.0 * outcome.result.summary.keep());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
