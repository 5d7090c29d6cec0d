#include "schmidt/parallel/ring.h"

#include <c10/util/Exception.h>

namespace schmidt::parallel {
namespace {

torch::Tensor slice(const torch::Tensor& flat, std::span<const int64_t> offsets, int64_t r) {
  const auto i = static_cast<size_t>(r);
  return flat.narrow(0, offsets[i], offsets[i + 1] - offsets[i]);
}

// On the communication thread, beside a backward pass that uses the cores: one loop
// rather than an operation of LibTorch, which would start threads of its own.
template <typename T>
void add_elements(std::span<std::byte> to, std::span<const std::byte> from) {
  auto* const a = reinterpret_cast<T*>(to.data());
  const auto* const b = reinterpret_cast<const T*>(from.data());
  const size_t n = to.size() / sizeof(T);
  for (size_t i = 0; i < n; ++i) a[i] += b[i];
}

void add(const torch::Tensor& to, std::span<const std::byte> from) {
  switch (to.scalar_type()) {
    case torch::kFloat32:
      return add_elements<float>(bytes_of(to), from);
    case torch::kFloat64:
      return add_elements<double>(bytes_of(to), from);
    case torch::kInt64:
      return add_elements<int64_t>(bytes_of(to), from);
    default:
      TORCH_CHECK_VALUE(false, "[sum] expected float32, float64 or int64, got ", to.scalar_type());
  }
}

std::unique_ptr<Message> send(const Ring& ring, const torch::Tensor& part, int64_t to) {
  ring.account(static_cast<int64_t>(part.nbytes()));
  return ring.transport.send(bytes_of(part), to, Transport::kCollective);
}

std::unique_ptr<Message> receive(const Ring& ring, std::span<std::byte> part, int64_t from) {
  return ring.transport.receive(part, from, Transport::kCollective);
}

}  // namespace

std::span<std::byte> bytes_of(const torch::Tensor& tensor) {
  return {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()};
}

std::vector<int64_t> even_offsets(int64_t n, int64_t ranks) {
  std::vector<int64_t> offsets;
  for (int64_t r = 0; r <= ranks; ++r) offsets.push_back(n / ranks * r + std::min(r, n % ranks));
  return offsets;
}

void reduce_scatter(const Ring& ring, const torch::Tensor& flat, std::span<const int64_t> offsets) {
  const int64_t n = ring.transport.size();
  const int64_t r = ring.transport.rank();
  for (int64_t turn = 0; turn + 1 < n; ++turn) {
    const torch::Tensor going = slice(flat, offsets, (r - turn - 1 + 2 * n) % n);
    const torch::Tensor growing = slice(flat, offsets, (r - turn - 2 + 2 * n) % n);
    if (ring.scratch.size() < growing.nbytes()) ring.scratch.resize(growing.nbytes());
    const std::span<std::byte> coming(ring.scratch.data(), growing.nbytes());
    const auto incoming = receive(ring, coming, (r - 1 + n) % n);
    const auto outgoing = send(ring, going, (r + 1) % n);
    ring.wait(*incoming);
    add(growing, coming);
    ring.wait(*outgoing);
  }
}

void all_gather(const Ring& ring, const torch::Tensor& flat, std::span<const int64_t> offsets) {
  const int64_t n = ring.transport.size();
  const int64_t r = ring.transport.rank();
  for (int64_t turn = 0; turn + 1 < n; ++turn) {
    const auto incoming =
        receive(ring, bytes_of(slice(flat, offsets, (r - turn - 1 + 2 * n) % n)), (r - 1 + n) % n);
    const auto outgoing = send(ring, slice(flat, offsets, (r - turn + n) % n), (r + 1) % n);
    ring.wait(*incoming);
    ring.wait(*outgoing);
  }
}

void broadcast(const Ring& ring, const torch::Tensor& flat, int64_t root) {
  const int64_t n = ring.transport.size();
  const int64_t r = (ring.transport.rank() - root + n) % n;  // as if the root were rank 0
  int64_t reach = 1;                                         // ranks below it hold the tensor
  for (; reach <= r; reach *= 2) {
    if (r >= 2 * reach) continue;
    ring.wait(*receive(ring, bytes_of(flat), (r - reach + root) % n));
  }
  for (; r + reach < n; reach *= 2) ring.wait(*send(ring, flat, (r + reach + root) % n));
}

}  // namespace schmidt::parallel
