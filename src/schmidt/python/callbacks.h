#pragma once

#include <exception>
#include <functional>
#include <optional>

#include <torch/csrc/utils/pybind.h>

#include "schmidt/base/progress.h"

namespace schmidt::python {

namespace py = pybind11;

/// Ends work that knows no other end than an exception.
struct Stopped : std::exception {
  const char* what() const noexcept override { return "stopped by the caller"; }
};

/// The way from work, which runs without Python's lock, to who has asked for it: callables of
/// Python, and its handlers of signals, which raise KeyboardInterrupt. What they raise is kept
/// until the work has ended.
class Callbacks {
 public:
  /// Each callable or None. `saves`: the work asks `interrupted` and saves its state; otherwise
  /// the callbacks throw Stopped.
  Callbacks(py::object progress, py::object note, bool saves);

  Reporter reporter();

  /// True from the first exception on.
  bool interrupted();

  /// Calls into Python; what that raises is kept. Throws Stopped unless the work saves its state.
  void call(const std::function<void()>& python);

  /// With Python's lock: raises again what was kept, with `note` for the reader.
  void raise_again(const char* note = nullptr);

 private:
  py::object progress_, note_;
  bool saves_;
  std::optional<py::error_already_set> raised_;
};

}  // namespace schmidt::python
