# Outside libraries. LibTorch comes from CMAKE_PREFIX_PATH when it is given (a
# CUDA build, say), otherwise from the local .venv that scripts/setup.sh makes;
# for Python's module from the Python that builds it.

set(python_with_torch ${PROJECT_SOURCE_DIR}/.venv/bin/python)
if(SCHMIDT_PYTHON)
  find_package(Python 3.10 REQUIRED COMPONENTS Interpreter Development.Module)
  set(python_with_torch ${Python_EXECUTABLE})
endif()
find_package(Torch QUIET)
if(NOT Torch_FOUND)
  execute_process(
    COMMAND ${python_with_torch} -c "import torch; print(torch.utils.cmake_prefix_path)"
    OUTPUT_VARIABLE venv_torch OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(NOT venv_torch)
    message(FATAL_ERROR "LibTorch not found: run scripts/setup.sh, or set CMAKE_PREFIX_PATH")
  endif()
  list(PREPEND CMAKE_PREFIX_PATH ${venv_torch})
  find_package(Torch REQUIRED)
endif()

find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 2.1 REQUIRED)
find_package(fmt 9 REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)

# What every target compiles against. -fopenmp turns at::parallel_for parallel;
# the runtime is the one that LibTorch brings, by its soname. A Clang without its
# own OpenMP package (the fuzz preset's) makes it serial.
include(CheckIncludeFileCXX)
check_include_file_cxx(omp.h SCHMIDT_HAS_OPENMP -fopenmp)
add_library(schmidt_fmt STATIC ${PROJECT_SOURCE_DIR}/cmake/fmt.cpp)
target_include_directories(schmidt_fmt SYSTEM PRIVATE ${TORCH_INCLUDE_DIRS})
add_library(schmidt_deps INTERFACE)
target_compile_features(schmidt_deps INTERFACE cxx_std_20)
# An installed schmidt finds LibTorch where it is used: schmidtConfig.cmake.
target_include_directories(schmidt_deps SYSTEM INTERFACE "$<BUILD_INTERFACE:${TORCH_INCLUDE_DIRS}>")
target_link_libraries(schmidt_deps INTERFACE
  "$<BUILD_INTERFACE:${TORCH_LIBRARIES}>" $<INSTALL_INTERFACE:schmidt::torch>
  schmidt_fmt nlohmann_json::nlohmann_json)
set_target_properties(schmidt_deps PROPERTIES EXPORT_NAME deps)
set_target_properties(schmidt_fmt PROPERTIES EXPORT_NAME fmt)
separate_arguments(torch_flags UNIX_COMMAND "${TORCH_CXX_FLAGS}")
target_compile_options(schmidt_deps INTERFACE ${torch_flags})
if(SCHMIDT_HAS_OPENMP)
  target_compile_options(schmidt_deps INTERFACE -fopenmp)
  target_link_options(schmidt_deps INTERFACE -fopenmp)
endif()
