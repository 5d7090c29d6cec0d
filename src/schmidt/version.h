#pragma once

// The version of the library and the program. CMakeLists.txt reads it from here.
#define SCHMIDT_VERSION_MAJOR 0
#define SCHMIDT_VERSION_MINOR 1
#define SCHMIDT_VERSION_PATCH 0
