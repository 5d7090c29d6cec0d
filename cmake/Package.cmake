# `make package`: an archive and a Debian package of the program that need neither a compiler nor
# LibTorch. Beside what `cmake --install` puts in place for users of the program, they hold every
# shared library that it loads but the C library's, in lib/schmidt, where it looks first.
#
# A program under mpirun needs the Open MPI of its machine, and is built there.
set(libraries_dir lib/schmidt)

install(TARGETS schmidt RUNTIME_DEPENDENCY_SET schmidt_needs
  RUNTIME DESTINATION bin COMPONENT whole EXCLUDE_FROM_ALL)
install(RUNTIME_DEPENDENCY_SET schmidt_needs
  PRE_EXCLUDE_REGEXES "^ld-linux" "^lib(c|m|dl|rt|pthread|resolv)\\.so"
  DIRECTORIES ${TORCH_INSTALL_PREFIX}/lib
  LIBRARY DESTINATION ${libraries_dir} COMPONENT whole EXCLUDE_FROM_ALL)
# The places of the build's libraries say nothing on another machine. The program's path holds for
# the libraries of libraries where those have none of their own.
install(CODE "
  set(prefix \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}\")
  file(RPATH_SET FILE \"\${prefix}/bin/schmidt\" NEW_RPATH \"\\\$ORIGIN/../${libraries_dir}\")
  file(GLOB libraries \"\${prefix}/${libraries_dir}/*\")
  foreach(library IN LISTS libraries)
    file(RPATH_REMOVE FILE \"\${library}\")
  endforeach()"
  COMPONENT whole EXCLUDE_FROM_ALL)

set(CPACK_PACKAGE_NAME schmidt)
set(CPACK_PACKAGE_VENDOR schmidt)
set(CPACK_PACKAGE_CONTACT "the schmidt project <schmidt@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY
  "Makes large language models several times smaller with tensor networks")
set(CPACK_PACKAGE_FILE_NAME schmidt-${PROJECT_VERSION}-linux-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_RESOURCE_FILE_README ${PROJECT_SOURCE_DIR}/README.md)
set(CPACK_GENERATOR TGZ DEB)
set(CPACK_COMPONENTS_ALL whole shell)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_ARCHIVE_COMPONENT_INSTALL ON)
set(CPACK_PROJECT_CONFIG_FILE ${PROJECT_SOURCE_DIR}/cmake/PackageKinds.cmake)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_THREADS 0)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
# The oldest C library that has all symbols of the one that the build saw.
find_program(ldd ldd)
execute_process(COMMAND ${ldd} --version OUTPUT_VARIABLE libc_version ERROR_QUIET)
string(REGEX MATCH "[0-9]+\\.[0-9]+\n" libc_version "${libc_version}")
string(STRIP "${libc_version}" libc_version)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= ${libc_version})")
include(CPack)
