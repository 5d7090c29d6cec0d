#include "schmidt/heal/teacher_rows.h"

#include <memory>

#include <ATen/core/grad_mode.h>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/file_system.h"
#include "schmidt/io/json.h"
#include "schmidt/io/tensor_spill.h"

namespace schmidt::heal {
namespace {

struct Spills {
  io::TensorSpill ids;    // int32 [context, k] a row
  io::TensorSpill log_q;  // float16 [context, k] a row
};

Spills open(const std::filesystem::path& folder, int64_t rows, int64_t context, int64_t k) {
  return {{folder / "ids", rows, {context, k}, torch::kInt32},
          {folder / "log_q", rows, {context, k}, torch::kFloat16}};
}

}  // namespace

torch::Tensor counted_positions(const Batch& batch) {
  return (batch.targets.flatten() != kNoTarget).nonzero().squeeze(1);
}

Batch narrow_rows(const Batch& batch, int64_t begin, int64_t count) {
  return {batch.ids.narrow(0, begin, count), batch.segments.narrow(0, begin, count),
          batch.targets.narrow(0, begin, count)};
}

TeacherRows live_teacher(const model::Model& model) {
  return [&model](const Batch& rows, const torch::Tensor& counted, int64_t) {
    const at::NoGradGuard no_grad;
    const torch::Tensor hidden = model.hidden(rows.ids, rows.segments).flatten(0, 1);
    return Teacher{&model, hidden.index_select(0, counted.to(hidden.device())), std::nullopt};
  };
}

StoredTeacher::StoredTeacher(std::filesystem::path folder, int64_t rows, int64_t context, int64_t k)
    : folder_(std::move(folder)), rows_(rows), context_(context), k_(k) {
  make_folders(folder_);
  open(folder_, rows_, context_, k_);
  if (const auto file = folder_ / "stored.json"; path_exists(file)) {
    stored_ = io::read_json_object(file).value("rows", int64_t{0});
  }
}

void StoredTeacher::append(const model::Model& teacher, const torch::Tensor& hidden) {
  const at::NoGradGuard no_grad;
  Spills spills = open(folder_, rows_, context_, k_);
  const TopTokens top = top_tokens(teacher, hidden.flatten(0, 1), k_);
  const auto by_row = [&](const torch::Tensor& all, torch::ScalarType dtype) {
    return all.to(torch::kCPU, dtype).view({hidden.size(0), context_, k_});
  };
  const torch::Tensor ids = by_row(top.ids, torch::kInt32);
  const torch::Tensor log_q = by_row(top.log_q, torch::kFloat16);
  for (int64_t r = 0; r < ids.size(0); ++r) {
    spills.ids.write(stored_ + r, ids[r]);
    spills.log_q.write(stored_ + r, log_q[r]);
  }
  spills.ids.sync();
  spills.log_q.sync();
  stored_ += ids.size(0);
  write_file_atomically(folder_ / "stored.json", nlohmann::json{{"rows", stored_}}.dump());
}

TeacherRows StoredTeacher::rows() const {
  const auto spills = std::make_shared<const Spills>(open(folder_, rows_, context_, k_));
  return [spills](const Batch& rows, const torch::Tensor& counted, int64_t first_row) {
    std::vector<torch::Tensor> ids, log_q;
    for (int64_t r = 0; r < rows.ids.size(0); ++r) {
      ids.push_back(spills->ids.read(first_row + r));
      log_q.push_back(spills->log_q.read(first_row + r));
    }
    const auto at_counted = [&](const std::vector<torch::Tensor>& parts, torch::ScalarType dtype) {
      return at::cat(parts).index_select(0, counted.cpu()).to(counted.device(), dtype);
    };
    return Teacher{
        nullptr, {}, TopTokens{at_counted(ids, torch::kInt64), at_counted(log_q, torch::kFloat32)}};
  };
}

}  // namespace schmidt::heal
