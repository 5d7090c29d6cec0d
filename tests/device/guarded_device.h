#pragma once

#include <torch/types.h>

namespace schmidt::test {

/// A device that is not the CPU, on any machine: LibTorch's PrivateUse1. Operations are computed
/// on the CPU on copies, but its memory can be read and written by LibTorch's copies alone: a
/// product that mixes devices throws, and code that takes a pointer to its data for the CPU's ends
/// by SIGSEGV, as on a GPU.
torch::Device guarded_device();

}  // namespace schmidt::test
