#include "schmidt/pipeline/sample_text.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "schmidt/base/atomic_file.h"
#include "schmidt/base/held_folder.h"
#include "schmidt/io/json.h"
#include "schmidt/io/record_log.h"
#include "schmidt/model/model.h"
#include "schmidt/package/fingerprint.h"
#include "schmidt/pipeline/calibration_text.h"
#include "schmidt/pipeline/outputs.h"
#include "schmidt/report/page.h"

namespace schmidt::pipeline {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string work_fingerprint(const io::Checkpoint& checkpoint, const eval::SelfTextOptions& options,
                             const model::LoadOptions& load) {
  package::Fingerprint hash;
  hash.add(package::fingerprint(checkpoint));
  hash.add(fmt::format("{} {} {} {} {}", options.tokens, options.length, options.seed,
                       static_cast<int>(options.half), c10::toString(load.dtype)));
  return hash.hex();
}

std::string lines_of(const std::map<int64_t, ordered_json>& batches) {
  std::string lines;
  for (const auto& [number, texts] : batches) {
    for (const ordered_json& text : texts) {
      // The source stands first: it tells a file that schmidt wrote.
      lines += io::json_text(ordered_json{{"source", report::kMadeBy}, {"text", text}}) + "\n";
    }
  }
  return lines;
}

}  // namespace

SampledText sample_text(const io::Checkpoint& checkpoint, eval::SelfTextOptions options,
                        const model::LoadOptions& load, const fs::path& out, bool force,
                        const Reporter& reporter) {
  TORCH_CHECK_VALUE(out.extension() == ".jsonl", "[output] expected a .jsonl file, got ",
                    out.string());
  const int64_t count = eval::self_batches(options);
  const std::vector<InputPath> inputs = {{"the model", checkpoint.path()}};
  const fs::path place = output_file(out, force, inputs);
  const fs::path partial = with_ending(place, ".partial");
  check_apart({place, partial}, inputs);
  const HeldFolder held(partial, io::RecordLog::is_own);
  const WorkFolder work =
      io::RecordLog::prepare(partial, work_fingerprint(checkpoint, options, load),
                             "sample of another model or recipe", force);
  std::map<int64_t, ordered_json> batches = io::RecordLog::read(partial);
  if (std::cmp_less(batches.size(), count)) {
    const text::Tokenizer tokenizer = load_tokenizer(checkpoint, reporter);
    const model::Model model = model::Model::load(checkpoint, load);
    options.never_drawn = tokenizer.ids_without_token(model.config().vocab_size);
    io::RecordLog log(partial, 0);
    for (int64_t batch = 0; batch < count; ++batch) {
      if (batches.contains(batch)) continue;
      ordered_json texts = ordered_json::array();
      for (const auto& ids : eval::sample_self_batch(model, options, batch, reporter.progress)) {
        texts.push_back(tokenizer.decode(ids));
      }
      log.append(batch, texts);
      batches[batch] = std::move(texts);
    }
  }
  SampledText result;
  for (const auto& [number, texts] : batches) result.documents += std::ssize(texts);
  result.tokens = result.documents * options.length;
  write_file_atomically(place, lines_of(batches));
  held.remove();
  return result;
}

}  // namespace schmidt::pipeline
