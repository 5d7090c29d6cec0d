#include "schmidt/python/callbacks.h"

#include <string>
#include <string_view>
#include <utility>

#include "schmidt/python/errors.h"

namespace schmidt::python {

Callbacks::Callbacks(py::object progress, py::object note, bool saves)
    : progress_(std::move(progress)), note_(std::move(note)), saves_(saves) {}

void Callbacks::call(const std::function<void()>& python) {
  {
    const py::gil_scoped_acquire locked;
    if (!raised_) {
      try {
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
        python();
      } catch (py::error_already_set& error) {
        raised_.emplace(std::move(error));
      }
    }
  }
  if (raised_ && !saves_) throw Stopped();
}

Reporter Callbacks::reporter() {
  const auto progress = [this](const Progress& p) {
    call([&] {
      if (progress_.is_none()) return;
      progress_(python_text(p.stage), python_text(p.item), p.done, p.total, python_text(p.unit));
    });
  };
  const auto note = [this](const std::string& text) {
    call([&] {
      if (!note_.is_none()) note_(python_text(text));
    });
  };
  return {progress, note};
}

bool Callbacks::interrupted() {
  call([] {});
  return raised_.has_value();
}

void Callbacks::raise_again(const char* note) {
  if (!raised_) return;
  py::error_already_set error = std::move(*raised_);
  raised_.reset();
  if (note != nullptr && py::hasattr(error.value(), "add_note")) {  // Python 3.11
    error.value().attr("add_note")(python_text(note));
  }
  throw error;
}

}  // namespace schmidt::python
