#include "schmidt/eval/python_random.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>
#include <unordered_set>
#include <utility>

#include <c10/util/Exception.h>

namespace schmidt::eval {

PythonRandom::PythonRandom(uint64_t seed) : engine_(19650218) {
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed),
                                       static_cast<uint32_t>(seed >> 32U)};
  const size_t length = key[1] == 0 ? 1 : 2;
  auto data = engine_.data();
  auto& state = data.state_;
  const size_t n = state.size();
  size_t i = 1;
  const auto mixed = [&](uint32_t factor) {
    return state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30U)) * factor);
  };
  const auto advance = [&] {
    if (++i < n) return;
    state[0] = state[n - 1];
    i = 1;
  };
  for (size_t step = 0; step < std::max(n, length); ++step) {
    const size_t j = step % length;
    state[i] = mixed(1664525U) + key[j] + static_cast<uint32_t>(j);
    advance();
  }
  for (size_t step = 1; step < n; ++step) {
    state[i] = mixed(1566083941U) - static_cast<uint32_t>(i);
    advance();
  }
  state[0] = 0x80000000U;
  engine_.set_data(data);
}

uint64_t PythonRandom::bits(int count) {
  TORCH_CHECK_VALUE(count >= 1 && count <= 64, "[random] expected 1 to 64 bits, got ", count);
  if (count <= 32) return engine_() >> static_cast<unsigned>(32 - count);
  const uint64_t low = engine_();
  return low | static_cast<uint64_t>(engine_() >> static_cast<unsigned>(64 - count)) << 32U;
}

uint64_t PythonRandom::below(uint64_t n) {
  TORCH_CHECK_VALUE(n >= 1, "[random] expected a bound of 1 or more, got ", n);
  const int width = std::bit_width(n);
  uint64_t value = bits(width);
  while (value >= n) value = bits(width);
  return value;
}

double PythonRandom::uniform() {
  const uint32_t high = engine_() >> 5U;
  const uint32_t low = engine_() >> 6U;
  return (static_cast<double>(high) * 67108864.0 + static_cast<double>(low)) / 9007199254740992.0;
}

std::vector<size_t> PythonRandom::sample(size_t n, size_t k) {
  TORCH_CHECK_VALUE(k <= n, "[random] expected a sample of up to ", n, ", got ", k);
  size_t of_a_set = 21;
  if (k > 5) {
    size_t table = 1;  // the power of 4 that 3 k fits in
    while (table < 3 * k) table *= 4;
    of_a_set += table;
  }
  std::vector<size_t> drawn;
  if (n <= of_a_set) {
    std::vector<size_t> pool(n);
    std::iota(pool.begin(), pool.end(), size_t{0});
    for (size_t i = 0; i < k; ++i) {
      const size_t j = below(n - i);
      drawn.push_back(std::exchange(pool[j], pool[n - i - 1]));
    }
    return drawn;
  }
  std::unordered_set<size_t> taken;
  while (drawn.size() < k) {
    const size_t j = below(n);
    if (taken.insert(j).second) drawn.push_back(j);
  }
  return drawn;
}

}  // namespace schmidt::eval
