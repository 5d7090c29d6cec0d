# Flags that every target shares, and the three ways a target is declared.

add_compile_options(-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers)  # designated initialisers leave defaults out on purpose
if(SCHMIDT_WERROR)
  add_compile_options(-Werror)
endif()
if(SCHMIDT_SANITIZE)
  add_compile_options(-fsanitize=${SCHMIDT_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${SCHMIDT_SANITIZE})
endif()
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

# schmidt_library(NAME SOURCES a.cpp ... DEPENDS targets ...)
function(schmidt_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(schmidt_${name} STATIC ${arg_SOURCES})
  target_include_directories(schmidt_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:include>)
  set_target_properties(schmidt_${name} PROPERTIES EXPORT_NAME ${name})
  set_property(GLOBAL APPEND PROPERTY SCHMIDT_LIBRARIES schmidt_${name})
  target_link_libraries(schmidt_${name} PUBLIC schmidt_deps ${arg_DEPENDS})
  target_precompile_headers(schmidt_${name} REUSE_FROM schmidt_pch)
endfunction()

# schmidt_test(x_test LABEL unit|model|dist|slow DEPENDS targets ... [TIMEOUT s])
# builds x_test.cpp of the current folder into one program and registers it. The
# target LABEL_tests builds all programs of a label.
#
# A test's own code runs for moments and is compiled with -O1 in two thirds of the time.
function(schmidt_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;DEPENDS" ${ARGN})
  set(target ${name})
  if(TARGET ${name})  # two folders may call a test alike
    get_filename_component(folder ${CMAKE_CURRENT_SOURCE_DIR} NAME)
    set(target ${folder}_${name})
  endif()
  add_executable(${target} ${name}.cpp ${arg_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PRIVATE ${arg_DEPENDS} schmidt_test_support)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_precompile_headers(${target} REUSE_FROM schmidt_test_pch)
  add_test(NAME ${target} COMMAND ${target} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  set_tests_properties(${target} PROPERTIES LABELS "${arg_LABEL}" TIMEOUT ${arg_TIMEOUT})
  if(NOT TARGET ${arg_LABEL}_tests)
    add_custom_target(${arg_LABEL}_tests)
  endif()
  add_dependencies(${arg_LABEL}_tests ${target})
  if(arg_LABEL STREQUAL "model" OR arg_LABEL STREQUAL "slow")
    set_tests_properties(${target} PROPERTIES FIXTURES_REQUIRED oracles)
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
