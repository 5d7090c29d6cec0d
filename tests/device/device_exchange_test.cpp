// Tensors of a device between ranks: by collectives that know the device, or over the host.

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include "schmidt/parallel/exchange.h"

#include "tests/device/guarded_device.h"
#include "tests/parallel/local_transport.h"

namespace schmidt::parallel {
namespace {

/// Stands in for NCCL: another exchange of the same ranks carries what it is given.
class ByAnotherExchange : public DeviceCollectives {
 public:
  ByAnotherExchange(std::unique_ptr<Transport> transport, std::vector<std::string>& calls)
      : exchange_(std::move(transport)), calls_(calls) {}

  std::unique_ptr<Message> sum(const torch::Tensor& x) override {
    return through("sum", x, [&](const torch::Tensor& host) { exchange_.sum(host); });
  }
  std::unique_ptr<Message> reduce_scatter(const torch::Tensor& flat,
                                          const std::vector<int64_t>& offsets) override {
    return through("reduce-scatter", flat,
                   [&](const torch::Tensor& host) { exchange_.reduce_scatter(host, offsets); });
  }
  std::unique_ptr<Message> gather_slices(const torch::Tensor& flat,
                                         const std::vector<int64_t>& offsets) override {
    return through("gather", flat,
                   [&](const torch::Tensor& host) { exchange_.gather_slices(host, offsets); });
  }
  std::unique_ptr<Message> broadcast(const torch::Tensor& x, int64_t root) override {
    return through("broadcast", x,
                   [&](const torch::Tensor& host) { exchange_.broadcast(host, root); });
  }

 private:
  struct Done : Message {
    bool done() override { return true; }
  };

  template <typename Exchanged>
  std::unique_ptr<Message> through(const char* call, torch::Tensor x, const Exchanged& exchanged) {
    calls_.emplace_back(call);
    const torch::Tensor host = x.cpu();
    exchanged(host);
    x.copy_(host);
    return std::make_unique<Done>();
  }

  Exchange exchange_;
  std::vector<std::string>& calls_;
};

/// What every collective makes of tensors on the device.
void exchange_on_device(Exchange& exchange) {
  const int64_t n = exchange.size(), rank = exchange.rank();
  const auto of_rank = [&](int64_t r) {
    return at::arange(10, torch::kFloat32).add_(static_cast<double>(r)).to(test::guarded_device());
  };
  torch::Tensor total = at::full({10}, 0.0).to(test::guarded_device());
  for (int64_t r = 0; r < n; ++r) total = total + of_rank(r);
  const std::vector<int64_t> offsets = {0, 3, 7, 10};

  const torch::Tensor summed = of_rank(rank);
  exchange.sum(summed);
  EXPECT_TRUE(torch::equal(summed.cpu(), total.cpu()));

  const torch::Tensor scattered = of_rank(rank);
  exchange.reduce_scatter(scattered, offsets);
  const auto own = [&](const torch::Tensor& x) {
    return x.cpu().slice(0, offsets[static_cast<size_t>(rank)],
                         offsets[static_cast<size_t>(rank) + 1]);
  };
  EXPECT_TRUE(torch::equal(own(scattered), own(total)));
  exchange.gather_slices(scattered, offsets);
  EXPECT_TRUE(torch::equal(scattered.cpu(), total.cpu()));

  const torch::Tensor told = of_rank(rank);
  exchange.broadcast(told, 2);
  EXPECT_TRUE(torch::equal(told.cpu(), of_rank(2).cpu()));

  const torch::Tensor wide = at::full({10, 2}, 1.0).to(test::guarded_device());
  exchange.sum(wide.select(1, 1));  // not contiguous
  EXPECT_EQ(wide.cpu().sum(0)[1].item<float>(), 10.0F * static_cast<float>(n));
  EXPECT_EQ(wide.cpu().sum(0)[0].item<float>(), 10.0F);
}

TEST(DeviceExchange, CollectivesOfTheDeviceCarryItsTensors) {
  const auto inner = std::make_shared<test::LocalNetwork>();
  test::as_ranks(3, [&](std::unique_ptr<Transport> transport) {
    std::vector<std::string> calls;
    int asked = 0;
    Exchange exchange(std::move(transport), {}, [&](Exchange& of, torch::Device device) {
      ++asked;
      EXPECT_EQ(device.type(), test::guarded_device().type());
      of.sum(at::full({1}, 1.0));  // it may ask the other ranks
      return std::make_unique<ByAnotherExchange>(
          std::make_unique<test::LocalTransport>(inner, of.rank(), of.size()), calls);
    });
    exchange_on_device(exchange);
    EXPECT_EQ(asked, 1);
    EXPECT_EQ(calls, (std::vector<std::string>{"sum", "reduce-scatter", "gather", "broadcast"}));
  });
}

TEST(DeviceExchange, WithoutThemTensorsGoOverTheHost) {
  test::as_ranks(3, [](std::unique_ptr<Transport> transport) {
    Exchange exchange(std::move(transport));
    exchange_on_device(exchange);
  });
}

}  // namespace
}  // namespace schmidt::parallel
