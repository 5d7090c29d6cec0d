#include "tests/device/guarded_device.h"

#include <map>
#include <mutex>

#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

namespace schmidt::test {
namespace {

constexpr auto kType = c10::DeviceType::PrivateUse1;

/// Memory that nobody may touch but while it is opened. Calls may come from any thread.
class GuardedMemory {
 public:
  static GuardedMemory& instance() {
    static auto* const memory = new GuardedMemory;  // outlives tensors of static lifetime
    return *memory;
  }

  void* allocate(size_t bytes) {
    if (bytes == 0) return nullptr;
    void* start = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK(start != MAP_FAILED, "no memory for ", bytes, " bytes");
    const std::lock_guard lock(mutex_);
    regions_[start] = {bytes, 0};
    return start;
  }

  void free(void* start) {
    const std::lock_guard lock(mutex_);
    const auto region = regions_.find(start);
    if (region == regions_.end()) return;
    munmap(start, region->second.bytes);
    regions_.erase(region);
  }

  void open(void* start) { change(start, +1); }
  void close(void* start) { change(start, -1); }

 private:
  struct Region {
    size_t bytes = 0;
    int opened = 0;
  };

  void change(void* start, int by) {
    if (start == nullptr) return;
    const std::lock_guard lock(mutex_);
    Region& region = regions_.at(start);
    region.opened += by;
    const int rights = region.opened > 0 ? PROT_READ | PROT_WRITE : PROT_NONE;
    TORCH_CHECK(mprotect(start, region.bytes, rights) == 0, "mprotect failed");
  }

  std::mutex mutex_;
  std::map<void*, Region> regions_;
};

class GuardedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* start = GuardedMemory::instance().allocate(bytes);
    return {start, start, [](void* p) { GuardedMemory::instance().free(p); },
            c10::Device(kType, 0)};
  }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    auto& memory = GuardedMemory::instance();
    memory.open(to);
    memory.open(const_cast<void*>(from));
    default_copy_data(to, from, bytes);
    memory.close(const_cast<void*>(from));
    memory.close(to);
  }
};

GuardedAllocator& allocator() {
  static auto* const one = new GuardedAllocator;
  return *one;
}

/// The same memory as a tensor of the CPU, for as long as this lives.
class Opened {
 public:
  explicit Opened(const at::Tensor& x) : tensor(x) {
    if (x.device().type() != kType) return;
    start_ = x.storage().mutable_data();
    GuardedMemory::instance().open(start_);
    char* first = static_cast<char*>(start_) +
                  x.storage_offset() * static_cast<int64_t>(x.dtype().itemsize());
    tensor = at::from_blob(first, x.sizes(), x.strides(), x.options().device(c10::kCPU));
  }
  ~Opened() { GuardedMemory::instance().close(start_); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  at::Tensor tensor;

 private:
  void* start_ = nullptr;
};

at::Tensor empty(c10::IntArrayRef size, std::optional<c10::ScalarType> dtype,
                 std::optional<c10::Layout> /*layout*/, std::optional<c10::Device> /*device*/,
                 std::optional<bool> /*pinned*/, std::optional<c10::MemoryFormat> format) {
  return at::detail::empty_generic(size, &allocator(),
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride,
                         std::optional<c10::ScalarType> dtype,
                         std::optional<c10::Layout> /*layout*/,
                         std::optional<c10::Device> /*device*/, std::optional<bool> /*pinned*/) {
  return at::detail::empty_strided_generic(size, stride, &allocator(),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

const at::Tensor& resize_to(const at::Tensor& self, c10::IntArrayRef size,
                            std::optional<c10::MemoryFormat> /*format*/) {
  at::TensorImpl* tensor = self.unsafeGetTensorImpl();
  tensor->set_sizes_contiguous(size);
  const size_t bytes = at::detail::computeStorageNbytesContiguous(
      size, self.dtype().itemsize(), static_cast<size_t>(self.storage_offset()));
  const c10::Storage& storage = tensor->storage();
  if (bytes <= storage.nbytes()) return self;
  c10::DataPtr larger = allocator().allocate(bytes);
  allocator().copy_data(larger.get(), storage.data(), storage.nbytes());
  storage.set_data_ptr_noswap(std::move(larger));
  storage.set_nbytes(bytes);
  return self;
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool /*without_waiting*/) {
  const Opened source(from), target(to);
  target.tensor.copy_(source.tensor);
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (to.sizes() != from.sizes()) resize_to(to, from.sizes(), {});
  return copy_from(from, to, false);
}

c10::Scalar local_scalar(const at::Tensor& x) { return Opened(x).tensor.item(); }

void compute_on_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", empty);
  library.impl("empty_strided", empty_strided);
  library.impl("resize_", resize_to);
  library.impl("as_strided", at::native::as_strided_tensorimpl);
  library.impl("view", at::native::view);
  library.impl("_reshape_alias", at::native::_reshape_alias);
  library.impl("set_.source_Storage_storage_offset", at::native::set_storage_cpu_);
  library.impl("_copy_from", copy_from);
  library.impl("_copy_from_and_resize", copy_from_and_resize);
  library.impl("_local_scalar_dense", local_scalar);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&compute_on_cpu>());
}

struct Guard final : public c10::impl::NoOpDeviceGuardImpl<kType> {
  c10::Device exchangeDevice(c10::Device /*device*/) const override { return {kType, 0}; }
  c10::Device getDevice() const override { return {kType, 0}; }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  c10::Stream exchangeStream(c10::Stream stream) const noexcept override { return stream; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex /*device*/) const override { return true; }
};

}  // namespace

torch::Device guarded_device() {
  static const bool registered = [] {
    c10::register_privateuse1_backend("guarded");
    at::RegisterPrivateUse1HooksInterface(new Hooks);
    c10::SetAllocator(kType, &allocator());
    return true;
  }();
  (void)registered;
  return {kType, 0};
}

}  // namespace schmidt::test
