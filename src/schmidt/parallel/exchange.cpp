#include "schmidt/parallel/exchange.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/parallel/host_copy.h"
#include "schmidt/parallel/lost_rank.h"
#include "schmidt/parallel/pause.h"
#include "schmidt/parallel/ranks.h"
#include "schmidt/parallel/ring.h"

namespace schmidt::parallel {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

struct Operation {
  explicit Operation(const char* what_) : what(what_) {}
  Operation(const char* what_, HostCopy tensor_, std::function<void(const Ring&)> run_ = {})
      : what(what_), tensor(std::move(tensor_)), run(std::move(run_)) {}

  const char* what;
  std::optional<HostCopy> tensor;        // kept until it is done; none: the message keeps it
  std::function<void(const Ring&)> run;  // a collective
  std::unique_ptr<Message> message;      // or one message, or a collective of a device
  std::optional<int64_t> peer;           // of the message
  bool done = false;
  std::exception_ptr error;
};

struct Exchange::State {
  State(std::unique_ptr<Transport> transport_, ExchangeOptions options_, MakeDeviceCollectives make)
      : transport(std::move(transport_)),
        options(options_),
        make_device_collectives(std::move(make)),
        heard(static_cast<size_t>(transport->size())),
        thread([this] { work(); }) {}

  // On the thread.
  void work();
  void look_at_messages();
  void complete(const Ticket& operation, std::exception_ptr error = {});

  // Where the rank waits.
  void check_silence(const Operation& operation, Clock::time_point began);
  [[noreturn]] void give_up(const Operation& operation);

  Ticket start(Ticket operation);
  void bring_back(Ticket operation);  // a ticket of its own: it leaves the list

  struct Stopped {};

  std::unique_ptr<Transport> transport;
  ExchangeOptions options;
  MakeDeviceCollectives make_device_collectives;  // until it was asked
  std::unique_ptr<DeviceCollectives> device_collectives;
  std::string work_described;
  std::vector<Ticket> copies;  // whose tensors are not yet what was exchanged
  std::atomic<int64_t> bytes = 0;
  std::atomic<Clock::time_point> progress{Clock::now()};

  std::mutex mutex;  // of what follows
  std::condition_variable changed;
  std::deque<Ticket> collectives;
  std::vector<Ticket> messages;
  std::exception_ptr failure;  // the first; nothing works after it
  bool stop = false;

  std::vector<std::byte> scratch;                       // the thread's
  std::vector<std::optional<Clock::time_point>> heard;  // when each rank last greeted
  std::optional<Clock::time_point> told;                // when this one last did
  std::thread thread;                                   // the last: it uses all of them
};

void Exchange::State::complete(const Ticket& operation, std::exception_ptr error) {
  const std::lock_guard lock(mutex);
  operation->done = true;
  operation->error = error;
  if (failure == nullptr) failure = error;
  std::erase(collectives, operation);
  std::erase(messages, operation);
  progress = Clock::now();
  changed.notify_all();
}

void Exchange::State::look_at_messages() {
  std::vector<Ticket> open;
  {
    const std::lock_guard lock(mutex);
    if (stop) throw Stopped{};
    open = messages;
  }
  for (const Ticket& operation : open) {
    std::exception_ptr error;
    try {
      if (!operation->message->done()) continue;
    } catch (...) {
      error = std::current_exception();
    }
    complete(operation, error);
  }
}

void Exchange::State::work() {
  const Ring ring{*transport,
                  [this](Message& message) {
                    for (Pause pause; !message.done(); pause()) look_at_messages();
                    progress = Clock::now();
                  },
                  [this](int64_t sent) { bytes += sent; }, scratch};
  Pause pause;
  try {
    while (true) {
      Ticket next;
      std::exception_ptr failed;
      {
        std::unique_lock lock(mutex);
        const auto busy = [&] { return stop || !collectives.empty() || !messages.empty(); };
        if (!busy()) {
          changed.wait(lock, busy);
          pause.reset();
        }
        if (stop) return;
        if (!collectives.empty()) next = collectives.front();
        failed = failure;
      }
      if (next == nullptr) {
        look_at_messages();
        pause();
        continue;
      }
      std::exception_ptr error;
      try {
        if (failed != nullptr) std::rethrow_exception(failed);
        next->run(ring);
      } catch (const std::exception&) {
        error = std::current_exception();
      }
      complete(next, error);
    }
  } catch (const Stopped&) {
    return;
  }
}

// Greetings tell who lives: a rank that has waited in vain for a while greets all others,
// and one that waits answers. At the end those who kept silent are the lost ones.
void Exchange::State::check_silence(const Operation& operation, Clock::time_point began) {
  const auto now = Clock::now();
  bool called = false;
  while (const auto from = transport->greeted()) {
    heard[static_cast<size_t>(*from)] = now;
    called = true;
  }
  const double silent = Seconds(now - std::max(began, progress.load())).count();
  const double recent = options.deadline_seconds / 4;
  const bool told_lately = told && Seconds(now - *told).count() < recent;
  if ((silent > recent || called) && !told_lately) {
    told = now;
    for (int64_t r = 0; r < transport->size(); ++r) {
      if (r != transport->rank()) transport->greet(r);
    }
  }
  // The lowest rank that waits speaks first, and alone.
  const double turn =
      std::min(0.5 * static_cast<double>(transport->rank()), options.deadline_seconds / 4);
  if (silent > options.deadline_seconds + turn) give_up(operation);
}

void Exchange::State::give_up(const Operation& operation) {
  std::vector<int64_t> silent;
  for (int64_t r = 0; r < transport->size(); ++r) {
    const auto& last = heard[static_cast<size_t>(r)];
    const bool lives = last && Seconds(Clock::now() - *last).count() < options.deadline_seconds;
    if (r != transport->rank() && !lives) silent.push_back(transport->global_rank(r));
  }
  if (silent.empty() && operation.peer) silent = {transport->global_rank(*operation.peer)};
  const std::string place = work_described.empty() ? "" : " of " + work_described;
  const std::string who = silent.empty() ? "the other ranks"
                                         : fmt::format("rank{} {}", silent.size() > 1 ? "s" : "",
                                                       fmt::join(silent, ", "));
  throw LostRank(fmt::format("{} did not answer for {} s ({}{})", who, options.deadline_seconds,
                             operation.what, place));
}

// At the end of a wait: a GPU's work goes on in the thread that asked for it.
void Exchange::State::bring_back(Ticket operation) {
  if (std::erase(copies, operation) > 0) operation->tensor->write_back();
}

Ticket Exchange::State::start(Ticket operation) {
  if (operation->tensor && operation->tensor->is_copy()) copies.push_back(operation);
  const std::lock_guard lock(mutex);
  if (operation->message != nullptr) {
    messages.push_back(operation);
  } else {
    collectives.push_back(operation);
  }
  changed.notify_all();
  return operation;
}

Exchange::Exchange(const std::vector<int64_t>& ranks, ExchangeOptions options)
    : Exchange(make_transport(ranks), options) {}

Exchange::Exchange(std::unique_ptr<Transport> transport, ExchangeOptions options,
                   MakeDeviceCollectives make) {
  TORCH_CHECK_VALUE(options.deadline_seconds > 0, "[exchange] expected a deadline above 0 s, got ",
                    options.deadline_seconds);
  if (transport != nullptr && transport->size() > 1) {
    state_ = std::make_unique<State>(std::move(transport), options, std::move(make));
  }
}

Exchange::Exchange(Exchange&&) noexcept = default;

Exchange& Exchange::operator=(Exchange&& other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

Exchange::~Exchange() {
  if (state_ == nullptr) return;
  bool idle;
  {
    const std::lock_guard lock(state_->mutex);
    idle = state_->collectives.empty() && state_->messages.empty();
    state_->stop = true;
    state_->changed.notify_all();
  }
  state_->thread.join();
  if (idle) return;
  // The system may still write where an unfinished message is to arrive.
  static std::mutex mutex;
  static auto* const given_up = new std::vector<std::unique_ptr<State>>;
  const std::lock_guard lock(mutex);
  given_up->push_back(std::move(state_));
}

int64_t Exchange::rank() const { return state_ == nullptr ? 0 : state_->transport->rank(); }
double Exchange::deadline_seconds() const {
  return state_ == nullptr ? ExchangeOptions{}.deadline_seconds : state_->options.deadline_seconds;
}
int64_t Exchange::size() const { return state_ == nullptr ? 1 : state_->transport->size(); }
double Exchange::share_sent(const torch::Tensor& x) const {
  const auto ranks = static_cast<double>(size());
  return (ranks - 1) / ranks * static_cast<double>(x.nbytes());
}

int64_t Exchange::bytes_sent() const { return state_ == nullptr ? 0 : state_->bytes.load(); }
void Exchange::describe(std::string work) {
  if (state_ != nullptr) state_->work_described = std::move(work);
}

namespace {

void check_offsets(const torch::Tensor& flat, const std::vector<int64_t>& offsets, int64_t size) {
  TORCH_CHECK_VALUE(flat.dim() == 1 && std::cmp_equal(offsets.size(), size + 1) &&
                        offsets.front() == 0 && offsets.back() == flat.numel() &&
                        std::ranges::is_sorted(offsets),
                    "[exchange] expected ", size + 1, " ascending offsets from 0 to the end of [",
                    flat.numel(), "], got ", fmt::format("{}", fmt::join(offsets, ", ")));
}

/// `run` gets the tensor on the CPU.
Ticket collective(const char* what, const torch::Tensor& x,
                  const std::function<void(const Ring&, const torch::Tensor&)>& run) {
  HostCopy copy(x);
  const torch::Tensor host = copy.tensor();
  return std::make_shared<Operation>(what, std::move(copy),
                                     [=](const Ring& ring) { run(ring, host); });
}

}  // namespace

/// Those for x; null where it goes over the host's memory.
DeviceCollectives* Exchange::device_collectives(const torch::Tensor& x) {
  if (x.is_cpu() || !x.is_contiguous()) return nullptr;
  if (const MakeDeviceCollectives make = std::exchange(state_->make_device_collectives, {})) {
    state_->device_collectives = make(*this, x.device());
  }
  return state_->device_collectives.get();
}

/// `sent`: bytes, as the ring would send them.
Ticket Exchange::start_on_device(const char* what, std::unique_ptr<Message> message, double sent) {
  state_->bytes += static_cast<int64_t>(sent);
  auto operation = std::make_shared<Operation>(what);
  operation->message = std::move(message);
  return state_->start(std::move(operation));
}

Ticket Exchange::start_sum(const torch::Tensor& x) {
  if (state_ == nullptr) return nullptr;
  if (DeviceCollectives* device = device_collectives(x)) {
    return start_on_device("sum", device->sum(x), 2 * share_sent(x));
  }
  return state_->start(collective("sum", x, [](const Ring& ring, const torch::Tensor& host) {
    const torch::Tensor flat = host.view({-1});
    const std::vector<int64_t> offsets = even_offsets(flat.numel(), ring.transport.size());
    parallel::reduce_scatter(ring, flat, offsets);
    all_gather(ring, flat, offsets);
  }));
}

Ticket Exchange::start_reduce_scatter(const torch::Tensor& flat,
                                      const std::vector<int64_t>& offsets) {
  check_offsets(flat, offsets, size());
  if (state_ == nullptr) return nullptr;
  if (DeviceCollectives* device = device_collectives(flat)) {
    return start_on_device("reduce-scatter", device->reduce_scatter(flat, offsets),
                           share_sent(flat));
  }
  return state_->start(
      collective("reduce-scatter", flat, [=](const Ring& ring, const torch::Tensor& host) {
        parallel::reduce_scatter(ring, host, offsets);
      }));
}

Ticket Exchange::start_gather_slices(const torch::Tensor& flat,
                                     const std::vector<int64_t>& offsets) {
  check_offsets(flat, offsets, size());
  if (state_ == nullptr) return nullptr;
  if (DeviceCollectives* device = device_collectives(flat)) {
    return start_on_device("gather", device->gather_slices(flat, offsets), share_sent(flat));
  }
  return state_->start(collective("gather", flat, [=](const Ring& ring, const torch::Tensor& host) {
    all_gather(ring, host, offsets);
  }));
}

Ticket Exchange::start_broadcast(const torch::Tensor& x, int64_t root) {
  TORCH_CHECK_VALUE(root >= 0 && root < size(), "[broadcast] expected a root below ", size(),
                    ", got ", root);
  if (state_ == nullptr) return nullptr;
  if (DeviceCollectives* device = device_collectives(x)) {
    return start_on_device("broadcast", device->broadcast(x, root), share_sent(x));
  }
  return state_->start(collective("broadcast", x, [=](const Ring& ring, const torch::Tensor& host) {
    parallel::broadcast(ring, host, root);
  }));
}

Ticket Exchange::start_send(const torch::Tensor& x, int64_t to) {
  TORCH_CHECK_VALUE(to >= 0 && to < size() && to != rank(), "[send] expected another rank below ",
                    size(), ", got ", to);
  auto operation = std::make_shared<Operation>("send", HostCopy(x));
  operation->message =
      state_->transport->send(bytes_of(operation->tensor->tensor()), to, Transport::kDirect);
  operation->peer = to;
  state_->bytes += static_cast<int64_t>(x.nbytes());
  return state_->start(std::move(operation));
}

Ticket Exchange::start_receive(const torch::Tensor& x, int64_t from) {
  TORCH_CHECK_VALUE(from >= 0 && from < size() && from != rank(),
                    "[receive] expected another rank below ", size(), ", got ", from);
  auto operation = std::make_shared<Operation>("receive", HostCopy(x));
  operation->message =
      state_->transport->receive(bytes_of(operation->tensor->tensor()), from, Transport::kDirect);
  operation->peer = from;
  return state_->start(std::move(operation));
}

void Exchange::wait(const Ticket& ticket) {
  if (ticket == nullptr) return;
  const auto began = Clock::now();
  const auto look = std::chrono::duration_cast<Clock::duration>(
      Seconds(std::min(0.05, state_->options.deadline_seconds / 20)));
  std::unique_lock lock(state_->mutex);
  while (!state_->changed.wait_for(lock, look, [&] { return ticket->done; })) {
    lock.unlock();
    state_->check_silence(*ticket, began);
    lock.lock();
  }
  lock.unlock();
  if (ticket->error) std::rethrow_exception(ticket->error);
  state_->bring_back(ticket);
}

void Exchange::wait_all() {
  if (state_ == nullptr) return;
  while (true) {
    Ticket next;
    {
      const std::lock_guard lock(state_->mutex);
      if (!state_->collectives.empty()) next = state_->collectives.front();
      if (next == nullptr && !state_->messages.empty()) next = state_->messages.front();
    }
    if (next == nullptr) break;
    wait(next);
  }
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->failure != nullptr) std::rethrow_exception(state_->failure);
  }
  while (!state_->copies.empty()) state_->bring_back(state_->copies.front());
}

std::vector<int64_t> all_ranks() {
  std::vector<int64_t> ranks(static_cast<size_t>(size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

}  // namespace schmidt::parallel
