#pragma once

#include <string_view>

#include <torch/csrc/utils/pybind.h>

/// The project's exceptions as Python's, each of one line:
///
///   c10::ValueError       ValueError
///   FormatError           schmidt.FormatError, a ValueError with path, place and reason
///   SystemError           OSError, or the subclass that belongs to its errno (FileNotFoundError)
///   c10::LinAlgError      torch.linalg.LinAlgError
///   no more memory        MemoryError
///   everything else       RuntimeError: a defect
namespace schmidt::python {

namespace py = pybind11;

/// Text of a message or a name, which may hold any bytes.
py::str python_text(std::string_view bytes);

/// For functions of this module alone.
void register_exceptions();

}  // namespace schmidt::python
