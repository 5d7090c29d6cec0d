/// Python's extension module schmidt._schmidt: the verbs with arguments of the command line, the
/// model and its tokenizer. python/schmidt is what people import; what a function means stands
/// there. Python's lock is held by nothing that computes.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <torch/csrc/utils/pybind.h>

#include "schmidt/cli/call_verb.h"
#include "schmidt/cli/interrupted.h"
#include "schmidt/io/checkpoint.h"
#include "schmidt/io/json.h"
#include "schmidt/model/generate.h"
#include "schmidt/model/model.h"
#include "schmidt/python/callbacks.h"
#include "schmidt/python/errors.h"
#include "schmidt/text/continuation.h"
#include "schmidt/text/tokenizer.h"

namespace schmidt::python {
namespace {

using Unlocked = py::call_guard<py::gil_scoped_release>;

py::dict as_dict(const cli::OptionForm& option) {
  py::dict form;
  form["name"] = option.names.back();
  form["help"] = option.help;
  form["value"] = option.value_name;
  form["choices"] = option.choices;
  form["default"] = option.default_value;
  form["is_list"] = option.is_list;
  form["repeats"] = option.repeats;
  form["is_required"] = option.is_required;
  return form;
}

py::dict verbs() {
  py::dict all;
  for (const cli::VerbForm& verb : cli::callable_verbs()) {
    py::list options;
    for (const cli::OptionForm& option : verb.options) options.append(as_dict(option));
    all[py::str(verb.name)] = options;
  }
  return all;
}

py::str call_verb(const std::string& verb, const std::vector<std::string>& arguments,
                  py::object progress, py::object note) {
  Callbacks callbacks(std::move(progress), std::move(note), /*saves=*/verb == "heal");
  std::string result;
  try {
    const py::gil_scoped_release released;
    result = io::json_text(cli::call_verb(
        verb, arguments, {callbacks.reporter(), [&] { return callbacks.interrupted(); }}));
  } catch (const Stopped&) {
    callbacks.raise_again();
  } catch (const cli::Interrupted& interrupted) {
    callbacks.raise_again(interrupted.what());
  }
  callbacks.raise_again();  // by the last report of work that was done by then
  return python_text(result);
}

/// A model in memory with what its folder says of it.
struct LoadedModel {
  model::Model model;
  std::string config;  ///< config.json
  std::vector<std::string> notes;
};

LoadedModel load_model(const std::string& path, torch::ScalarType dtype, torch::Device device,
                       bool full_gauge) {
  const io::Checkpoint checkpoint = io::Checkpoint::open(path);
  return {
      model::Model::load(checkpoint, {.dtype = dtype, .device = device, .free_gauge = full_gauge}),
      io::json_text(checkpoint.config()), checkpoint.notes()};
}

py::list named(const std::vector<model::NamedTensor>& tensors, size_t begin, size_t end) {
  py::list list;
  for (size_t i = begin; i < end; ++i) {
    list.append(py::make_tuple(tensors[i].name, tensors[i].tensor));
  }
  return list;
}

/// (what training may change, what is stored beside it), by the names of the checkpoint.
py::tuple tensors_of(const LoadedModel& loaded) {
  const std::vector<model::NamedTensor> all = loaded.model.tensors();
  const size_t parameters = loaded.model.parameters().size();
  return py::make_tuple(named(all, 0, parameters), named(all, parameters, all.size()));
}

std::string_view name_of(model::FinishReason reason) {
  switch (reason) {
    case model::FinishReason::kLength:
      return "length";
    case model::FinishReason::kEos:
      return "end of text";
    case model::FinishReason::kStopped:
      break;
  }
  return "stopped";
}

py::list generate(const LoadedModel& loaded, const std::vector<std::vector<int64_t>>& prompts,
                  model::GenerateOptions options, py::object on_token) {
  Callbacks callbacks(py::none(), py::none(), /*saves=*/false);
  std::vector<model::Generation> answers;
  const auto told = [&](int64_t row, int64_t id) {
    bool goes_on = true;
    callbacks.call([&] {
      if (!on_token.is_none()) goes_on = !on_token(row, id).is(py::bool_(false));
    });
    return goes_on;
  };
  try {
    const py::gil_scoped_release released;
    answers = model::generate(loaded.model, prompts, options, told);
  } catch (const Stopped&) {
    callbacks.raise_again();
  }
  py::list list;
  for (const model::Generation& answer : answers) {
    list.append(py::make_tuple(answer.ids, name_of(answer.finish)));
  }
  return list;
}

model::GenerateOptions generate_options(int64_t max_new_tokens, double temperature, int64_t top_k,
                                        double top_p, double min_p, double repetition_penalty,
                                        uint64_t seed, std::optional<std::vector<int64_t>> end_ids,
                                        std::vector<int64_t> never_drawn) {
  model::GenerateOptions options;
  options.max_new_tokens = max_new_tokens;
  options.sampling = {.repetition_penalty = repetition_penalty,
                      .temperature = temperature,
                      .top_k = top_k,
                      .top_p = top_p,
                      .min_p = min_p,
                      .seed = seed};
  options.eos_ids = std::move(end_ids);
  options.never_drawn = std::move(never_drawn);
  return options;
}

void add_model(py::module_& m) {
  py::class_<LoadedModel>(m, "Model")
      .def_static("load", load_model, py::arg("path"), py::arg("dtype"), py::arg("device"),
                  py::arg("full_gauge"), Unlocked())
      .def_readonly("config", &LoadedModel::config)
      .def_property_readonly("notes",
                             [](const LoadedModel& self) {
                               py::list notes;
                               for (const std::string& note : self.notes) {
                                 notes.append(python_text(note));
                               }
                               return notes;
                             })
      .def_property_readonly("end_ids",
                             [](const LoadedModel& self) { return self.model.config().eos_ids; })
      .def_property_readonly("vocab_size",
                             [](const LoadedModel& self) { return self.model.config().vocab_size; })
      .def("tensors", tensors_of)
      .def(
          "forward",
          [](const LoadedModel& self, const torch::Tensor& ids) { return self.model.forward(ids); },
          py::arg("ids"), Unlocked())
      .def(
          "generate",
          [](const LoadedModel& self, const std::vector<std::vector<int64_t>>& prompts,
             int64_t max_new_tokens, double temperature, int64_t top_k, double top_p, double min_p,
             double repetition_penalty, uint64_t seed, std::optional<std::vector<int64_t>> end_ids,
             std::vector<int64_t> never_drawn, py::object on_token) {
            return generate(self, prompts,
                            generate_options(max_new_tokens, temperature, top_k, top_p, min_p,
                                             repetition_penalty, seed, std::move(end_ids),
                                             std::move(never_drawn)),
                            std::move(on_token));
          },
          py::arg("prompts"), py::kw_only(), py::arg("max_new_tokens"), py::arg("temperature"),
          py::arg("top_k"), py::arg("top_p"), py::arg("min_p"), py::arg("repetition_penalty"),
          py::arg("seed"), py::arg("end_ids"), py::arg("never_drawn"), py::arg("on_token"));
}

void add_tokenizer(py::module_& m) {
  using text::Tokenizer;
  py::class_<Tokenizer>(m, "Tokenizer",
                        "Text to token ids and back, as the model's tokenizer has it.")
      .def_static(
          "load", [](const std::string& path) { return Tokenizer::load(path); }, py::arg("path"),
          Unlocked())
      .def(
          "encode",
          [](const Tokenizer& self, const std::string& text, bool parse_special, bool add_special) {
            return self.encode(text, {parse_special, add_special});
          },
          py::arg("text"), py::kw_only(), py::arg("parse_special") = true,
          py::arg("add_special") = true, Unlocked())
      .def(
          "decode",
          [](const Tokenizer& self, const std::vector<int64_t>& ids, bool skip_special) {
            return python_text(self.decode(ids, skip_special));
          },
          py::arg("ids"), py::kw_only(), py::arg("skip_special") = true)
      .def(
          "continuation",
          [](const Tokenizer& self, const std::vector<int64_t>& ids) {
            text::StreamDecoder decoder = text::answer_decoder(self, /*continues=*/true);
            std::string text;
            for (const int64_t id : ids) text += decoder.push(id);
            return python_text(text + decoder.flush());
          },
          py::arg("ids"))
      .def("ids_without_token", &Tokenizer::ids_without_token, py::arg("vocab_size"))
      .def_property_readonly("vocab_size", &Tokenizer::vocab_size)
      .def_property_readonly("bos_id", &Tokenizer::bos_id)
      .def_property_readonly("eos_id", &Tokenizer::eos_id)
      .def_property_readonly("stop_ids", &Tokenizer::stop_ids)
      .def_property_readonly(
          "chat_template", [](const Tokenizer& self) { return python_text(self.chat_template()); });
}

}  // namespace

PYBIND11_MODULE(_schmidt, m) {
  register_exceptions();
  m.def("verbs", verbs);
  m.def("call_verb", call_verb, py::arg("verb"), py::arg("arguments"), py::arg("progress"),
        py::arg("note"));
  add_model(m);
  add_tokenizer(m);
}

}  // namespace schmidt::python
