#include "schmidt/heal/loss.h"

#include <algorithm>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

namespace schmidt::heal {
namespace {

/// Of float32 logits that are held at once.
constexpr int64_t kLogitBytes = int64_t{64} << 20;

/// Probabilities below this count as it, where a logarithm needs more than 0.
constexpr double kTiny = 1e-12;

int64_t rows_at_once(const model::Model& model) {
  return std::max<int64_t>(1, kLogitBytes / (4 * model.config().vocab_size));
}

torch::Tensor log_probabilities(const torch::Tensor& logits) {
  return at::log_softmax(logits, -1, torch::kFloat32);
}

/// Sums over rows, and the gradient of the weighted sum at the logits.
struct Part {
  double cross_entropy = 0.0;
  double kl = 0.0;
  torch::Tensor gradient;  // float32 [rows, vocab]
};

/// d KL / d logits = p - q.
void add_whole_kl(Part& part, const torch::Tensor& log_p, const torch::Tensor& log_q,
                  double weight) {
  const torch::Tensor q = log_q.exp();
  part.kl += (q * (log_q - log_p)).sum(torch::kFloat64).item<double>();
  part.gradient.sub_(q, weight);  // p is there already
}

/// With r = q_rest / p_rest: d KL / d logits = p_j - q_j for the K tokens, p_j (1 - r) for the others.
void add_top_kl(Part& part, const torch::Tensor& p, const torch::Tensor& log_p,
                const TopTokens& top, double weight) {
  const torch::Tensor q = top.log_q.exp();
  const torch::Tensor top_log_p = log_p.gather(1, top.ids);
  const torch::Tensor q_rest = (1.0 - q.sum(1, true)).clamp_min(kTiny);
  const torch::Tensor p_rest = (1.0 - top_log_p.exp().sum(1, true)).clamp_min(kTiny);
  part.kl += ((q * (top.log_q - top_log_p)).sum(torch::kFloat64) +
              (q_rest * (q_rest.log() - p_rest.log())).sum(torch::kFloat64))
                 .item<double>();
  const torch::Tensor pull = (q_rest / p_rest) * p;  // of the others; the K tokens have their own
  part.gradient.sub_(pull, weight);
  part.gradient.scatter_add_(1, top.ids, (pull.gather(1, top.ids) - q) * weight);
}

/// The part of rows begin .. begin + logits.size(0) - 1 of all positions.
struct Inputs {
  const model::Model& student;
  const torch::Tensor& targets;
  const Teacher& teacher;
  const LossWeights& weights;
  double scale;

  Part part(const torch::Tensor& logits, int64_t begin) const {
    const at::NoGradGuard no_grad;
    const int64_t rows = logits.size(0);
    const torch::Tensor log_p = log_probabilities(logits);
    const torch::Tensor p = log_p.exp();
    const torch::Tensor index = targets.narrow(0, begin, rows).unsqueeze(1);
    Part part;
    part.cross_entropy = -log_p.gather(1, index).sum(torch::kFloat64).item<double>();
    part.gradient = p * (weights.cross_entropy + weights.kl);
    part.gradient.scatter_add_(
        1, index, at::full(index.sizes(), -weights.cross_entropy, part.gradient.options()));
    if (teacher.top) {
      add_top_kl(part, p, log_p,
                 {teacher.top->ids.narrow(0, begin, rows), teacher.top->log_q.narrow(0, begin, rows)},
                 weights.kl);
    } else if (teacher.model != nullptr) {
      add_whole_kl(part, log_p,
                   log_probabilities(teacher.model->logits(teacher.hidden.narrow(0, begin, rows))),
                   weights.kl);
    }
    return part;
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

/// Variables: hidden, then the trained parameters of the output layer.
struct HeadLossFunction : torch::autograd::Function<HeadLossFunction> {
  static torch::Tensor forward(torch::autograd::AutogradContext* context, at::TensorList variables,
                               const Inputs* inputs, HeadLoss* sums) {
    const torch::Tensor& hidden = variables.front();
    const int64_t step = rows_at_once(inputs->student);
    std::vector<torch::Tensor> of_hidden;
    std::vector<torch::Tensor> of_parameters(variables.size() - 1);  // float32
    for (int64_t begin = 0; begin < hidden.size(0); begin += step) {
      const at::AutoGradMode record(true);
      const torch::Tensor h = hidden.narrow(0, begin, std::min(step, hidden.size(0) - begin))
                                  .detach()
                                  .requires_grad_();
      const torch::Tensor logits = inputs->student.logits(h);
      const Part part = inputs->part(logits, begin);
      add(*sums, part);
      torch::autograd::variable_list leaves = {h};
      leaves.insert(leaves.end(), variables.begin() + 1, variables.end());
      const auto gradients = torch::autograd::grad(
          {logits}, leaves, {(part.gradient * inputs->scale).to(logits.scalar_type())});
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
  TORCH_CHECK_VALUE(
      teacher.model == nullptr || (teacher.model->config().vocab_size == student.config().vocab_size &&
                                   teacher.hidden.size(0) == hidden.size(0)),
      "[head_loss] expected a teacher of the student's vocabulary and positions");
}

}  // namespace

HeadLoss head_loss(const model::Model& student, const torch::Tensor& hidden,
                   const torch::Tensor& targets, const Teacher& teacher,
                   const LossWeights& weights, double scale) {
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
    const auto [values, indices] = log_probabilities(model.logits(rows)).topk(k, -1);
    log_q.push_back(values);
    ids.push_back(indices);
  }
  return {at::cat(ids), at::cat(log_q)};
}

}  // namespace schmidt::heal
