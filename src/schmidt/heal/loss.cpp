#include "schmidt/heal/loss.h"

#include <algorithm>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "schmidt/kernels/softmax.h"
#include "schmidt/model/vocabulary_scale.h"

namespace schmidt::heal {
namespace {

/// Of logits and their gradient that are held at once.
constexpr int64_t kLogitBytes = int64_t{128} << 20;

/// Probabilities of the rest below this count as it: what one minus a sum leaves in float32.
constexpr double kTiny = 1e-6;

int64_t rows_at_once(const model::Model& model) {
  const auto bytes = static_cast<int64_t>(2 * c10::elementSize(model.dtype()));
  return std::max<int64_t>(1, kLogitBytes / (bytes * model.config().vocab_size));
}

kernels::Distribution distribution(const torch::Tensor& logits) {
  return {logits, kernels::log_sum_exp(logits)};
}

/// log p of the tokens `ids` [rows, K], float32.
torch::Tensor log_probabilities(const kernels::Distribution& p, const torch::Tensor& ids) {
  return p.logits.gather(1, ids).to(torch::kFloat32) - p.log_sum.unsqueeze(1);
}

/// Sums over rows, and the gradient of the scaled and weighted sum at the logits.
struct Part {
  double cross_entropy = 0.0;
  double kl = 0.0;
  torch::Tensor gradient;  // [rows, vocab] in the logits' dtype
};

double total(const torch::Tensor& x) { return x.sum(torch::kFloat64).item<double>(); }

/// KL to the K likeliest tokens and the rest as one event. With r = q_rest / p_rest:
/// d KL / d logits = p_j - q_j for the K tokens, p_j (1 - r) for the others.
Part top_part(const kernels::Distribution& p, const TopTokens& top, double cross_entropy,
              double kl) {
  const torch::Tensor q = top.log_q.exp(), log_p = log_probabilities(p, top.ids);
  const torch::Tensor at_top = log_p.exp();
  const torch::Tensor q_rest = (1.0 - q.sum(1, true)).clamp_min(kTiny);
  const torch::Tensor p_rest = (1.0 - at_top.sum(1, true)).clamp_min(kTiny);
  const torch::Tensor r = q_rest / p_rest;  // [rows, 1]
  Part part;
  part.kl = total(q * (top.log_q - log_p)) + total(q_rest * (q_rest.log() - p_rest.log()));
  part.gradient =
      kernels::softmax_gradient(p, (cross_entropy + kl * (1.0 - r)).squeeze(1)).gradient;
  part.gradient.scatter_(1, top.ids,
                         ((cross_entropy + kl) * at_top - kl * q).to(part.gradient.scalar_type()));
  return part;
}

/// The part of rows begin .. begin + logits.size(0) - 1 of all positions.
struct Inputs {
  const model::Model& student;
  const torch::Tensor& targets;
  const Teacher& teacher;
  const LossWeights& weights;
  double scale;

  double weight() const { return scale * (weights.cross_entropy + weights.kl); }  // of a row

  Part part(const torch::Tensor& logits, int64_t begin) const {
    const at::NoGradGuard no_grad;
    const kernels::Distribution p = distribution(logits.detach());
    Part part = divergence(p, begin);
    const torch::Tensor index = targets.narrow(0, begin, logits.size(0)).unsqueeze(1);
    part.cross_entropy = -total(log_probabilities(p, index));
    part.gradient.scatter_add_(
        1, index, at::full(index.sizes(), -scale * weights.cross_entropy, part.gradient.options()));
    return part;
  }

  /// All but what the targets' own entries add to the gradient.
  Part divergence(const kernels::Distribution& p, int64_t begin) const {
    const int64_t rows = p.logits.size(0);
    const double cross_entropy = scale * weights.cross_entropy, kl = scale * weights.kl;
    if (teacher.top) {
      return top_part(
          p, {teacher.top->ids.narrow(0, begin, rows), teacher.top->log_q.narrow(0, begin, rows)},
          cross_entropy, kl);
    }
    std::optional<kernels::Distribution> q;
    if (teacher.model != nullptr) {
      q = distribution(
          teacher.model->logits(teacher.hidden.narrow(0, begin, rows)).to(p.logits.scalar_type()));
    }
    const kernels::SoftmaxGradient found =
        kernels::softmax_gradient(p, at::full_like(p.log_sum, cross_entropy + kl), q, kl);
    return {0.0, total(found.divergence), found.gradient};
  }

  void set_loss(HeadLoss& sums, const torch::Tensor& hidden) const {
    sums.loss = at::scalar_tensor(
        scale * (weights.cross_entropy * sums.cross_entropy + weights.kl * sums.kl),
        hidden.options().dtype(torch::kFloat32));
  }
};

void add(HeadLoss& sums, const Part& part) {
  sums.cross_entropy += part.cross_entropy;
  sums.kl += part.kl;
}

/// Whether gradients at the logits of these states leave tokens out: in bfloat16 what they would
/// add is lost in what it is added to.
bool leaves_tokens_out(const torch::Tensor& hidden) {
  return hidden.scalar_type() == torch::kBFloat16;
}

/// Tokens whose probability moves by 2^-12 of the loss's weight in one of the rows or more,
/// ascending int64 [k]; of a gradient at the logits [rows, vocab]. So many of the others come with
/// them that k is one of a few numbers: memory of ever new sizes would go to pieces.
torch::Tensor moving_tokens(const torch::Tensor& gradient, double weight) {
  constexpr double kLeast = 0x1p-12;
  const torch::Tensor most = at::maximum(gradient.amax(0), gradient.amin(0).neg_());
  const int64_t vocabulary = most.size(0), step = (vocabulary + 15) / 16;
  const auto moving = (most >= kLeast * weight).sum().item<int64_t>();
  const int64_t k = std::min(vocabulary, (moving + step - 1) / step * step);
  return std::get<0>(std::get<1>(most.topk(k)).sort());
}

/// The gradients of hidden [rows, hidden] and of the output layer's parameters by that of the
/// logits, by the rows of tokens that move alone: a quarter of a large vocabulary.
/// Source: Wijmans et al. 2024, "Cut Your Losses in Large-Vocabulary Language Models",
/// arXiv:2411.09009, section 4.3, of whose blocks columns are left here.
torch::autograd::variable_list gradients_of_moving(const model::Model& student,
                                                   const torch::Tensor& hidden,
                                                   const torch::Tensor& logits,
                                                   const torch::Tensor& of_logits, double weight,
                                                   const torch::autograd::variable_list& trained) {
  const torch::Tensor tokens = moving_tokens(of_logits, weight);
  torch::Tensor gradient = of_logits.index_select(1, tokens);
  const auto slopes = model::logit_slopes(student.config(), logits.index_select(1, tokens));
  if (slopes) gradient = gradient * *slopes;
  torch::Tensor rows;
  {
    const at::AutoGradMode record(true);
    rows = student.output_rows(tokens);
  }
  torch::autograd::variable_list gradients = {at::mm(gradient, rows.detach())};
  if (trained.empty()) return gradients;
  for (torch::Tensor& g : torch::autograd::grad({rows}, trained, {at::mm(gradient.t(), hidden)})) {
    gradients.push_back(std::move(g));
  }
  return gradients;
}

/// Variables: hidden, then the trained parameters of the output layer.
struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList variables,
                               const Inputs* inputs, HeadLoss* sums) {
    const torch::Tensor& hidden = variables.front();
    const int64_t step = rows_at_once(inputs->student);
    const bool cut = leaves_tokens_out(hidden);
    const torch::autograd::variable_list trained(variables.begin() + 1, variables.end());
    std::vector<torch::Tensor> of_hidden;
    std::vector<torch::Tensor> of_parameters(trained.size());  // float32
    for (int64_t begin = 0; begin < hidden.size(0); begin += step) {
      const at::AutoGradMode record(!cut);
      const torch::Tensor h = hidden.narrow(0, begin, std::min(step, hidden.size(0) - begin))
                                  .detach()
                                  .requires_grad_(!cut);
      const torch::Tensor logits = inputs->student.logits(h);
      const Part part = inputs->part(logits, begin);
      add(*sums, part);
      torch::autograd::variable_list leaves = {h};
      leaves.insert(leaves.end(), trained.begin(), trained.end());
      const auto gradients = cut ? gradients_of_moving(inputs->student, h, logits, part.gradient,
                                                       inputs->weight(), trained)
                                 : torch::autograd::grad({logits}, leaves, {part.gradient});
      of_hidden.push_back(gradients.front());
      for (size_t i = 0; i < of_parameters.size(); ++i) {
        torch::Tensor& sum = of_parameters[i];
        sum = sum.defined() ? sum.add_(gradients[i + 1]) : gradients[i + 1].to(torch::kFloat32);
      }
    }
    torch::autograd::variable_list saved = {at::cat(of_hidden)};
    for (size_t i = 0; i < of_parameters.size(); ++i) {
      saved.push_back(of_parameters[i].to(variables[i + 1].scalar_type()));
    }
    context->save_for_backward(saved);
    inputs->set_loss(*sums, hidden);
    return sums->loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list outer) {
    torch::autograd::variable_list gradients;
    for (const torch::Tensor& g : context->get_saved_variables()) {
      gradients.push_back(g * outer[0].to(g.scalar_type()));
    }
    gradients.resize(gradients.size() + 2);  // of `inputs` and `sums`
    return gradients;
  }
};

void check(const model::Model& student, const torch::Tensor& hidden, const torch::Tensor& targets,
           const Teacher& teacher, const LossWeights& weights) {
  TORCH_CHECK_VALUE(hidden.dim() == 2 && hidden.size(0) > 0 && targets.dim() == 1 &&
                        targets.size(0) == hidden.size(0),
                    "[head_loss] expected hidden [n, hidden] and targets [n], got ", hidden.sizes(),
                    " and ", targets.sizes());
  TORCH_CHECK_VALUE(weights.kl == 0.0 || teacher.model != nullptr || teacher.top,
                    "[head_loss] expected a teacher for a KL divergence that weighs ", weights.kl,
                    ", got none");
  TORCH_CHECK_VALUE(teacher.model == nullptr ||
                        (teacher.model->config().vocab_size == student.config().vocab_size &&
                         teacher.hidden.size(0) == hidden.size(0)),
                    "[head_loss] expected a teacher of the student's vocabulary and positions");
}

}  // namespace

HeadLoss head_loss(const model::Model& student, const torch::Tensor& hidden,
                   const torch::Tensor& targets, const Teacher& teacher, const LossWeights& weights,
                   double scale) {
  check(student, hidden, targets, teacher, weights);
  std::vector<torch::Tensor> variables = {hidden};
  for (const model::NamedTensor& parameter : student.output_parameters()) {
    if (parameter.tensor.requires_grad()) variables.push_back(parameter.tensor);
  }
  const Inputs inputs{student, targets, teacher, weights, scale};
  HeadLoss result;
  if (at::GradMode::is_enabled() && (variables.size() > 1 || hidden.requires_grad())) {
    result.loss = HeadLossFunction::apply(at::TensorList(variables), &inputs, &result);
    return result;
  }
  const int64_t step = rows_at_once(student);
  for (int64_t begin = 0; begin < hidden.size(0); begin += step) {
    const int64_t rows = std::min(step, hidden.size(0) - begin);
    add(result, inputs.part(student.logits(hidden.narrow(0, begin, rows)), begin));
  }
  inputs.set_loss(result, hidden);
  return result;
}

TopTokens top_tokens(const model::Model& model, const torch::Tensor& hidden, int64_t k) {
  const at::NoGradGuard no_grad;
  std::vector<torch::Tensor> ids, log_q;
  for (const torch::Tensor& rows : hidden.split(rows_at_once(model))) {
    const kernels::Distribution q = distribution(model.logits(rows));
    const torch::Tensor likeliest = std::get<1>(q.logits.topk(k, -1));
    log_q.push_back(log_probabilities(q, likeliest));
    ids.push_back(likeliest);
  }
  return {at::cat(ids), at::cat(log_q)};
}

}  // namespace schmidt::heal
