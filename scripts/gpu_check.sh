#!/bin/sh
# Builds with a LibTorch that has CUDA, compares the GPU with the CPU, and prints a table of both.
# LibTorch is CMAKE_PREFIX_PATH's, or else that of the python3 in the path. An NCCL that it brings
# is linked, but several GPUs are not tried. usage: scripts/gpu_check.sh [MODEL]      by default models/smollm2.gguf
set -eu
cd "$(dirname "$0")/.."
model=${1:-models/smollm2.gguf}

nvidia-smi --query-gpu=name,memory.total --format=csv,noheader || {
  echo "error: no NVIDIA GPU here: nvidia-smi does not answer" >&2
  exit 2
}
if [ -z "${CMAKE_PREFIX_PATH:-}" ]; then
  CMAKE_PREFIX_PATH=$(python3 -c "import torch; print(torch.utils.cmake_prefix_path)") || {
    echo "error: LibTorch not found: set CMAKE_PREFIX_PATH, or install torch with CUDA" >&2
    exit 2
  }
  export CMAKE_PREFIX_PATH
fi
export TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST:-9.0}"  # no CUDA code is compiled here
cmake --preset cuda
cmake --build build/cuda --target schmidt test_device factorize_bench

echo "== the tests of tests/device on the GPU"
build/cuda/bin/test_device --gtest_filter='*cuda'
python3 bench/gpu_check.py build/cuda/bin "$model"
