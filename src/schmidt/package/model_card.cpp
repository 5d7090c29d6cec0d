#include "schmidt/package/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "schmidt/base/escaped_bytes.h"
#include "schmidt/io/hub_cache.h"
#include "schmidt/io/json.h"
#include "schmidt/model/network.h"

namespace schmidt::package {

std::string model_name(const io::Checkpoint& original) {
  if (const auto name = io::hub_name(original.path())) return *name;
  const std::string base = io::string_or(original.config(), "_name_or_path", "", original.path());
  return escaped_bytes(base.empty() ? io::model_name(original.path()) : base);
}

std::string plain_card(const io::Checkpoint& original, const ModelSummary& summary) {
  const std::string name = model_name(original);
  return fmt::format(
      "---\n"
      "base_model: {}\n"
      "library_name: transformers\n"
      "---\n\n"
      "# {}, exported\n\n"
      "Every layer is a matrix of its architecture, which transformers opens by itself; an adapter "
      "in\n"
      "the folder above, where there is one, belongs to it and holds the low ranks that are not "
      "in it:\n\n"
      "```python\n"
      "AutoModelForCausalLM.from_pretrained(\"FOLDER\")\n"
      "```\n\n"
      "| | |\n|---|---|\n"
      "| parameters | {} |\n"
      "| bytes of weights | {} |\n",
      name, name, summary.parameters, summary.bytes);
}

std::string model_card(const io::Checkpoint& original, const ModelSummary& summary) {
  const std::string name = model_name(original);
  std::string card = fmt::format(
      "---\n"
      "base_model: {}\n"
      "library_name: schmidt\n"
      "tags:\n- compressed\n- tensor-network\n- matrix-product-operator\n"
      "---\n\n"
      "# {}, compressed\n\n"
      "Some weights of this model are Matrix Product Operators: a chain of small cores, its bond\n"
      "dimensions cut by singular values. `config.json` says under `compression_config` which, "
      "and\n"
      "how they were made.\n\n"
      "transformers, 4.46 or newer, opens the folder with the Python files in it:\n\n"
      "```python\n"
      "AutoModelForCausalLM.from_pretrained(\"FOLDER\", trust_remote_code=True)\n"
      "```\n\n"
      "| | this model | original |\n|---|---|---|\n"
      "| parameters | {} | {} |\n"
      "| kept of the whole model | {:.2f} % | 100 % |\n"
      "| kept of the compressed layers | {:.2f} % | 100 % |\n"
      "| bytes of weights | {} | {} in float32, {} in float16 |\n",
      name, name, summary.parameters, summary.dense_parameters, 100.0 * summary.keep(),
      100.0 * summary.tensorized_keep(), summary.bytes, summary.dense_bytes(4),
      summary.dense_bytes(2));
  card +=
      "\n| layer | weight | sites (out, in) | bonds | parameters kept |\n|---|---|---|---|---|\n";
  for (const ModuleSummary& module : summary.modules) {
    if (module.networks.empty()) continue;
    card += fmt::format("| {} | {} | {} | {} | {:.1f} % |\n", module.name,
                        fmt::join(module.shape, " x "), model::sites_text(module.networks),
                        model::bonds_text(module.networks),
                        100.0 * static_cast<double>(module.parameters) /
                            static_cast<double>(module.dense_parameters));
  }
  return card;
}

}  // namespace schmidt::package
