#include "schmidt/calibrate/activation_stream.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include <ATen/ops/zeros.h>
#include <c10/util/accumulate.h>
#include <fmt/format.h>

#include "schmidt/base/format_error.h"
#include "schmidt/base/memory.h"

namespace schmidt::calibrate {

namespace fs = std::filesystem;

TextBatches TextBatches::of(const torch::Tensor& windows, int64_t batch, const Workers& workers) {
  TORCH_CHECK_VALUE(windows.dim() == 2 && batch > 0,
                    "[activations] expected windows [n, t] and a batch of at least one, got ",
                    windows.sizes(), " and ", batch);
  TextBatches batches;
  for (int64_t begin = 0; begin < windows.size(0); begin += batch) {
    const auto number = static_cast<int64_t>(batches.shapes.size());
    batches.shapes.push_back({std::min(batch, windows.size(0) - begin), windows.size(1)});
    if (workers.takes(number)) batches.own.push_back(number);
  }
  return batches;
}

int64_t TextBatches::begin(int64_t batch) const {
  int64_t rows = 0;
  for (int64_t b = 0; b < batch; ++b) rows += shapes[static_cast<size_t>(b)].rows;
  return rows;
}

int64_t default_activation_memory() {
  constexpr int64_t kMost = int64_t{2} << 30;
  const int64_t left = available_bytes();
  return left == 0 ? kMost : std::min(kMost, left / 4);
}

struct ActivationSpace::State {
  TextBatches batches;
  fs::path folder;
  torch::ScalarType dtype;
  torch::Device device;
  int64_t memory;  // that is left

  const TextBatches::Shape& shape(int64_t batch) const {
    TORCH_CHECK_VALUE(std::ranges::binary_search(batches.own, batch),
                      "[activations] expected a batch of this worker, got ", batch);
    return batches.shapes[static_cast<size_t>(batch)];
  }

  int64_t own_bytes(int64_t width) const {
    int64_t tokens = 0;
    for (const int64_t b : batches.own) tokens += shape(b).rows * shape(b).tokens;
    return tokens * width * static_cast<int64_t>(c10::elementSize(dtype));
  }

  /// Numbers in the slot of a batch: those of the largest.
  int64_t slot(int64_t width) const {
    int64_t tokens = 0;
    for (const auto& [rows, each] : batches.shapes) tokens = std::max(tokens, rows * each);
    return tokens * width;
  }

  io::TensorSpill open(const std::string& name, int64_t width) const {
    std::error_code ec;
    fs::create_directories(folder, ec);
    if (ec) throw SystemError("cannot make folder", folder, ec.value());
    return {folder / name, static_cast<int64_t>(batches.shapes.size()), {slot(width)}, dtype};
  }
};

struct ActivationStream::Held {
  std::shared_ptr<ActivationSpace::State> space;
  std::string name;
  int64_t width;
  int64_t claimed = 0;                   // bytes of the space's memory
  std::vector<torch::Tensor> in_memory;  // by batch, on the CPU
  std::optional<io::TensorSpill> spill;
  bool kept = false;

  Held(std::shared_ptr<ActivationSpace::State> of, std::string called, int64_t wide)
      : space(std::move(of)), name(std::move(called)), width(wide) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held() {
    space->memory += claimed;
    std::error_code ignored;
    if (spill && !kept) fs::remove(space->folder / name, ignored);
  }

  void write_slot(io::TensorSpill& to, int64_t batch, const torch::Tensor& states) const {
    const torch::Tensor flat = states.reshape(-1).cpu();
    const int64_t room = space->slot(width);
    if (flat.size(0) == room) return to.write(batch, flat);
    torch::Tensor padded = at::zeros(room, flat.options());
    padded.narrow(0, 0, flat.size(0)).copy_(flat);
    to.write(batch, padded);
  }
};

ActivationSpace::ActivationSpace(TextBatches batches, fs::path folder, torch::ScalarType dtype,
                                 torch::Device device, std::optional<int64_t> memory)
    : state_(std::make_shared<State>(State{std::move(batches), std::move(folder), dtype, device,
                                           memory.value_or(default_activation_memory())})) {}

const TextBatches& ActivationSpace::batches() const { return state_->batches; }

ActivationStream ActivationSpace::make(const std::string& name, int64_t width) const {
  auto held = std::make_shared<ActivationStream::Held>(state_, name, width);
  const int64_t bytes = state_->own_bytes(width);
  if (bytes <= state_->memory) {
    state_->memory -= bytes;
    held->claimed = bytes;
    held->in_memory.resize(state_->batches.shapes.size());
  } else {
    held->spill.emplace(state_->open(name, width));
  }
  return ActivationStream(std::move(held));
}

ActivationStream ActivationSpace::kept(const std::string& name, int64_t width) const {
  const fs::path path = state_->folder / name;
  const uint64_t expected = state_->batches.shapes.size() *
                            static_cast<uint64_t>(state_->slot(width)) *
                            c10::elementSize(state_->dtype);
  std::error_code ec;
  const uint64_t found = fs::file_size(path, ec);
  if (ec || found != expected) {
    throw FormatError(path, "",
                      fmt::format("expected {} bytes of activations, found {}", expected,
                                  ec ? "no file" : fmt::format("{}", found)));
  }
  auto held = std::make_shared<ActivationStream::Held>(state_, name, width);
  held->spill.emplace(state_->open(name, width));
  held->kept = true;
  return ActivationStream(std::move(held));
}

const std::string& ActivationStream::name() const { return held_->name; }

bool ActivationStream::in_memory() const { return !held_->spill; }

void ActivationStream::write(int64_t batch, const torch::Tensor& states) {
  const auto& [rows, tokens] = held_->space->shape(batch);
  const std::array<int64_t, 3> expected = {rows, tokens, held_->width};
  TORCH_CHECK_VALUE(
      states.sizes() == at::IntArrayRef(expected) && states.scalar_type() == held_->space->dtype,
      "[activations] expected ", held_->space->dtype, " ", at::IntArrayRef(expected), ", got ",
      states.scalar_type(), " ", states.sizes());
  if (held_->spill) {
    held_->write_slot(*held_->spill, batch, states.detach());
  } else {
    held_->in_memory[static_cast<size_t>(batch)] = states.detach().cpu();
  }
}

torch::Tensor ActivationStream::read(int64_t batch) const {
  const auto& [rows, tokens] = held_->space->shape(batch);
  torch::Tensor states;
  if (held_->spill) {
    states = held_->spill->read(batch)
                 .narrow(0, 0, rows * tokens * held_->width)
                 .view({rows, tokens, held_->width});
  } else {
    const torch::Tensor& held = held_->in_memory[static_cast<size_t>(batch)];
    TORCH_CHECK_VALUE(held.defined(), "[activations] expected a batch that was written, got ",
                      batch, " of ", held_->name);
    states = held.detach();  // the reader may ask for its gradient
  }
  return states.to(held_->space->device);
}

torch::Tensor ActivationStream::take(int64_t batch) {
  torch::Tensor states = read(batch);
  if (!held_->spill) held_->in_memory[static_cast<size_t>(batch)] = torch::Tensor();
  return states;
}

void ActivationStream::keep() {
  if (held_->kept) return;
  if (held_->spill) {
    held_->spill->sync();
  } else {
    io::TensorSpill file = held_->space->open(held_->name, held_->width);
    for (const int64_t b : held_->space->batches.own) {
      held_->write_slot(file, b, held_->in_memory[static_cast<size_t>(b)]);
    }
    file.sync();
  }
  held_->kept = true;
}

}  // namespace schmidt::calibrate
