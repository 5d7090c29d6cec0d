#include "schmidt/base/leave.h"
#include "schmidt/cli/program.h"

int main(int argc, char** argv) { schmidt::leave(schmidt::cli::run_program(argc, argv)); }
