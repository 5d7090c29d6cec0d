# What `cmake --install` puts where: program, libraries, headers, the package that
# find_package(schmidt) reads, the manual page and completion of shells.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/schmidt)

# All of the library under one name, schmidt::schmidt.
add_library(schmidt_schmidt INTERFACE)
set_target_properties(schmidt_schmidt PROPERTIES EXPORT_NAME schmidt)
get_property(libraries GLOBAL PROPERTY SCHMIDT_LIBRARIES)
target_link_libraries(schmidt_schmidt INTERFACE ${libraries})

install(TARGETS schmidt_schmidt schmidt_deps schmidt_fmt ${libraries} EXPORT schmidt
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT schmidt NAMESPACE schmidt:: FILE schmidtTargets.cmake DESTINATION ${package_dir})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/schmidt DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILES_MATCHING PATTERN "*.h" PATTERN cli EXCLUDE PATTERN python EXCLUDE)

get_target_property(of_parallel schmidt_parallel LINK_LIBRARIES)
set(uses_mpi OFF)
if("MPI::MPI_CXX" IN_LIST of_parallel)
  set(uses_mpi ON)
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/schmidtConfig.cmake.in
  ${PROJECT_BINARY_DIR}/package/schmidtConfig.cmake INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may change the library's functions.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/schmidtConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/schmidtConfig.cmake
  ${PROJECT_BINARY_DIR}/package/schmidtConfigVersion.cmake DESTINATION ${package_dir})

# It finds LibTorch where the build did. The path holds for the libraries of libraries too
# (--disable-new-dtags), which a package brings along.
set_target_properties(schmidt PROPERTIES INSTALL_RPATH "${TORCH_INSTALL_PREFIX}/lib"
  INSTALL_RPATH_USE_LINK_PATH ON)
target_link_options(schmidt PRIVATE -Wl,--disable-new-dtags)
install(TARGETS schmidt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# schmidt_install_printed(FOLDER FILE verb ...): what the program prints, as a file.
function(schmidt_install_printed folder file)
  string(JOIN " " words ${ARGN})
  install(CODE "
    set(folder \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${folder}\")
    file(MAKE_DIRECTORY \"\${folder}\")
    execute_process(COMMAND \"$<TARGET_FILE:schmidt>\" ${words}
      OUTPUT_FILE \"\${folder}/${file}\" COMMAND_ERROR_IS_FATAL ANY)
    message(STATUS \"Installing: \${folder}/${file}\")"
    COMPONENT shell)
endfunction()
schmidt_install_printed(${CMAKE_INSTALL_MANDIR}/man1 schmidt.1 man)
schmidt_install_printed(${CMAKE_INSTALL_DATADIR}/bash-completion/completions schmidt completion bash)
schmidt_install_printed(${CMAKE_INSTALL_DATADIR}/zsh/site-functions _schmidt completion zsh)
schmidt_install_printed(${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d schmidt.fish completion fish)
