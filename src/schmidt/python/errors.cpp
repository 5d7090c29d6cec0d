#include "schmidt/python/errors.h"

#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <system_error>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/format_error.h"
#include "schmidt/base/out_of_memory.h"

namespace schmidt::python {
namespace {

std::string first_line(std::string text) { return text.substr(0, text.find('\n')); }

void raise(PyObject* type, const std::string& message) {
  PyErr_SetObject(type, python_text(first_line(message)).ptr());
}

void raise_new(const char* module, const char* name, const py::tuple& arguments) {
  const py::object type = py::module_::import(module).attr(name);
  PyErr_SetObject(type.ptr(), type(*arguments).ptr());
}

py::object python_path(const std::filesystem::path& path) {
  const std::string& text = path.native();
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<py::ssize_t>(text.size())));
}

void raise_refusal(int code, const std::string& action, const std::filesystem::path& path) {
  const std::string reason = fmt::format("{}: {}", action, std::generic_category().message(code));
  raise_new("builtins", "OSError", py::make_tuple(code, python_text(reason), python_path(path)));
}

void raise_defect(const std::string& message) {
  raise(PyExc_RuntimeError, "this is a defect of schmidt: " + message);
}

void translate(std::exception_ptr exception) {
  try {
    if (exception) std::rethrow_exception(exception);
  } catch (const FormatError& e) {
    raise_new("schmidt._errors", "FormatError",
              py::make_tuple(python_text(e.what()), python_path(e.path()), python_text(e.where()),
                             python_text(e.reason())));
  } catch (const SystemError& e) {
    raise_refusal(e.code(), e.action(), e.path());
  } catch (const std::filesystem::filesystem_error& e) {
    raise_refusal(e.code().value(), "cannot access", e.path1());
  } catch (const c10::ValueError& e) {
    raise(PyExc_ValueError, e.what_without_backtrace());
  } catch (const c10::LinAlgError& e) {
    raise_new("torch.linalg", "LinAlgError",
              py::make_tuple(python_text(first_line(e.what_without_backtrace()))));
  } catch (const c10::Error& e) {
    const std::string message = e.what_without_backtrace();
    const auto memory = out_of_memory(message);
    memory ? raise(PyExc_MemoryError, *memory) : raise_defect(message);
  } catch (const std::bad_alloc&) {
    raise(PyExc_MemoryError, "out of memory");
  } catch (const nlohmann::json::exception&) {
    raise(PyExc_ValueError, "expected another form of JSON in a file that an earlier run left");
  } catch (const py::builtin_exception&) {
    throw;  // of the binding itself: pybind11 translates them
  } catch (const std::exception& e) {
    raise_defect(e.what());
  }
}

}  // namespace

py::str python_text(std::string_view bytes) {
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(
      bytes.data(), static_cast<py::ssize_t>(bytes.size()), "backslashreplace"));
}

void register_exceptions() { py::register_local_exception_translator(translate); }

}  // namespace schmidt::python
