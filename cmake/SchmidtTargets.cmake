# Flags that every target shares, and the three ways a target is declared.

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers)  # designated initialisers leave defaults out on purpose
# Assertions of what users get name files as the project does, not where they lay when it was built.
add_compile_options("$<$<CONFIG:Release>:-ffile-prefix-map=${PROJECT_SOURCE_DIR}/=>"
  "$<$<CONFIG:Release>:-ffile-prefix-map=${TORCH_INSTALL_PREFIX}/=libtorch/>")
if(SCHMIDT_WERROR)
  add_compile_options(-Werror)
endif()
# How much longer tests may take: sanitizers make kernels some twenty times as slow.
set(SCHMIDT_SLOWNESS 1)
if(SCHMIDT_SANITIZE)
  set(SCHMIDT_SLOWNESS 20)
  add_compile_options(-fsanitize=${SCHMIDT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SCHMIDT_SANITIZE})
endif()
math(EXPR SCHMIDT_TEST_TIMEOUT "120 * ${SCHMIDT_SLOWNESS}")
if(SCHMIDT_FUZZ)  # count branches for libFuzzer, stop at the first finding
  add_compile_options(-fsanitize=fuzzer-no-link -fno-sanitize-recover=all)
endif()

# schmidt_precompiled(NAME header ...) declares headers that are compiled once and that targets of
# the same options reuse: LibTorch's dominate build time.
function(schmidt_precompiled name)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/pch/pch.cpp
    CONTENT "// Carries the precompiled header.\n")
  add_library(${name} STATIC ${PROJECT_BINARY_DIR}/pch/pch.cpp)
  target_link_libraries(${name} PUBLIC schmidt_deps)
  target_precompile_headers(${name} PRIVATE
    <torch/types.h> <fmt/format.h> <nlohmann/json.hpp>
    <algorithm> <filesystem> <functional> <map> <memory> <optional> <string> <vector> ${ARGN})
endfunction()

schmidt_precompiled(schmidt_pch)

# schmidt_unity(TARGET N) compiles N sources of a target at a time as one: what LibTorch's headers
# leave to be instantiated takes four seconds of every compilation, which was most of the build.
# -DSCHMIDT_UNITY=OFF, as in the preset dev, compiles each alone, for short builds after an edit,
# and warns of more: names that shadow those of a neighbour do not count here.
function(schmidt_unity target size)
  if(SCHMIDT_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${size})
    target_compile_options(${target} PRIVATE -Wno-shadow
      $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# schmidt_library(NAME SOURCES a.cpp ... DEPENDS targets ... [SEPARATE b.cpp ...])
# SEPARATE sources are compiled alone, since their local names stand in a neighbour too.
function(schmidt_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;SEPARATE" ${ARGN})
  add_library(schmidt_${name} STATIC ${arg_SOURCES})
  target_include_directories(schmidt_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:include>)
  set_target_properties(schmidt_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY SCHMIDT_LIBRARIES schmidt_${name})
  target_link_libraries(schmidt_${name} PUBLIC schmidt_deps ${arg_DEPENDS})
  target_precompile_headers(schmidt_${name} REUSE_FROM schmidt_pch)
  schmidt_unity(schmidt_${name} 8)
  set_source_files_properties(${arg_SEPARATE} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# schmidt_test(x_test LABEL unit|model|dist|slow DEPENDS targets ... [SOURCES b.cpp] [SEPARATE]
#   [TIMEOUT s])
# adds x_test.cpp of the current folder to the program of the folder's tests, test_FOLDER, and
# registers it as a test of its own: `test_FOLDER x_test` runs what stands in that file. The
# target LABEL_tests builds all programs of a label.
#
# Four files at a time are compiled as one, as in a library, SEPARATE ones alone. A test's own code
# runs for moments and is compiled with -O1 in two thirds of the time.
function(schmidt_test name)
  cmake_parse_arguments(arg "SEPARATE" "LABEL;TIMEOUT" "SOURCES;DEPENDS" ${ARGN})
  get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(program test_${folder})
  if(NOT TARGET ${program})
    add_executable(${program})
    target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(${program} PRIVATE schmidt_test_support)
    target_compile_options(${program} PRIVATE $<$<CONFIG:Release>:-O1>)
    target_precompile_headers(${program} REUSE_FROM schmidt_test_pch)
    schmidt_unity(${program} 4)
  endif()
  target_sources(${program} PRIVATE ${name}.cpp ${arg_SOURCES})
  target_link_libraries(${program} PRIVATE ${arg_DEPENDS})
  if(arg_SEPARATE)
    set_source_files_properties(${name}.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
  endif()

  if(TEST ${name})  # two folders may call a test alike
    set(test ${folder}_${name})
  else()
    set(test ${name})
  endif()
  add_test(NAME ${test} COMMAND ${program} ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  set(timeout ${SCHMIDT_TEST_TIMEOUT})
  if(arg_TIMEOUT)
    math(EXPR timeout "${arg_TIMEOUT} * ${SCHMIDT_SLOWNESS}")
  endif()
  set_tests_properties(${test} PROPERTIES LABELS "${arg_LABEL}" TIMEOUT ${timeout})
  if(NOT TARGET ${arg_LABEL}_tests)
    add_custom_target(${arg_LABEL}_tests)
  endif()
  add_dependencies(${arg_LABEL}_tests ${program})
  if(arg_LABEL STREQUAL "model" OR arg_LABEL STREQUAL "slow")
    set_tests_properties(${test} PROPERTIES FIXTURES_REQUIRED oracles)
  endif()
  set_property(GLOBAL APPEND PROPERTY SCHMIDT_TEST_SOURCES
    ${CMAKE_CURRENT_SOURCE_DIR}/${name}.cpp)
endfunction()

# schmidt_test_program(NAME SOURCES a.cpp ... DEPENDS targets ...)
# builds what a test in Python runs.
function(schmidt_test_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_DEPENDS})
  target_precompile_headers(${name} REUSE_FROM schmidt_pch)
  add_dependencies(unit_tests ${name})
endfunction()

# Fails the configuration when a *_test.cpp under `folder` was not registered.
function(schmidt_check_tests_registered folder)
  file(GLOB_RECURSE found CONFIGURE_DEPENDS ${folder}/*_test.cpp)
  get_property(registered GLOBAL PROPERTY SCHMIDT_TEST_SOURCES)
  foreach(file IN LISTS found)
    if(NOT file IN_LIST registered)
      message(FATAL_ERROR "${file} is not registered with schmidt_test()")
    endif()
  endforeach()
endfunction()
