#include "schmidt/eval/tasks/mmlu.h"

#include <algorithm>
#include <array>
#include <utility>

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include "schmidt/base/file_system.h"
#include "schmidt/base/format_error.h"
#include "schmidt/eval/python_text.h"
#include "schmidt/eval/task_files.h"
#include "schmidt/io/csv.h"
#include "schmidt/io/mapped_file.h"
#include "schmidt/text/utf8.h"

namespace schmidt::eval {
namespace {

namespace fs = std::filesystem;

struct Category {
  std::string_view name;
  std::string_view subjects;  // each between spaces
};
constexpr std::array<Category, 4> kCategories = {{
    {"mmlu_stem",
     " abstract_algebra anatomy astronomy college_biology college_chemistry "
     "college_computer_science college_mathematics college_physics computer_security "
     "conceptual_physics electrical_engineering elementary_mathematics high_school_biology "
     "high_school_chemistry high_school_computer_science high_school_mathematics "
     "high_school_physics high_school_statistics machine_learning "},
    {"mmlu_other",
     " business_ethics clinical_knowledge college_medicine global_facts human_aging management "
     "marketing medical_genetics miscellaneous nutrition professional_accounting "
     "professional_medicine virology "},
    {"mmlu_social_sciences",
     " econometrics high_school_geography high_school_government_and_politics "
     "high_school_macroeconomics high_school_microeconomics high_school_psychology "
     "human_sexuality professional_psychology public_relations security_studies sociology "
     "us_foreign_policy "},
    {"mmlu_humanities",
     " formal_logic high_school_european_history high_school_us_history "
     "high_school_world_history international_law jurisprudence logical_fallacies "
     "moral_disputes moral_scenarios philosophy prehistory professional_law world_religions "},
}};

std::string category_of(std::string_view subject) {
  for (const Category& category : kCategories) {
    if (category.subjects.find(fmt::format(" {} ", subject)) != std::string_view::npos) {
      return std::string(category.name);
    }
  }
  return {};
}

Question question_of(const std::vector<std::string>& row, const fs::path& path, size_t number) {
  const bool whole = row.size() == 6 && row[5].size() == 1 && row[5][0] >= 'A' && row[5][0] <= 'D';
  if (!whole) {
    throw FormatError(path, fmt::format("row {}", number),
                      "expected a question, four answers and a letter of A to D");
  }
  return {fmt::format("{}\nA. {}\nB. {}\nC. {}\nD. {}\nAnswer:", stripped(row[0]), row[1], row[2],
                      row[3], row[4]),
          {"A", "B", "C", "D"},
          static_cast<size_t>(row[5][0] - 'A')};
}

std::vector<Question> read_file(const fs::path& path) {
  const io::MappedFile file(path);
  std::vector<Question> questions;
  for (const auto& row : io::parse_csv(text::utf8_text(file.bytes(), path), path)) {
    questions.push_back(question_of(row, path, questions.size() + 1));
  }
  return questions;
}

/// What stands before each question of a subject.
std::string opening_of(const fs::path& folder, const std::string& subject, int64_t fewshot) {
  std::string words = subject;
  std::replace(words.begin(), words.end(), '_', ' ');
  std::string opening = fmt::format(
      "The following are multiple choice questions (with answers) about {}.\n\n", words);
  std::vector<Question> examples;
  if (fewshot > 0) examples = read_file(folder / "dev" / (subject + "_dev.csv"));
  TORCH_CHECK_VALUE(fewshot >= 0 && std::cmp_less_equal(fewshot, examples.size()),
                    "[fewshot] expected 0 to ", examples.size(), " worked examples of ", subject,
                    ", got ", fewshot);
  for (int64_t i = 0; i < fewshot; ++i) opening += worked_example(examples[static_cast<size_t>(i)]);
  return opening;
}

std::vector<QuestionSet> read(const fs::path& data, const TaskOptions& options) {
  const fs::path folder = data / "mmlu";
  // The hub's files have no folder for each split.
  if (!path_exists(folder / "test")) refuse_parquet(folder);
  std::vector<QuestionSet> sets;
  for (const fs::path& path : files_of(folder / "test", ".csv")) {
    std::string subject = path.stem().string();
    if (subject.ends_with("_test")) subject.resize(subject.size() - 5);
    QuestionSet set{"mmlu_" + subject,           subject, category_of(subject),
                    options.fewshot.value_or(0), 0,       read_file(path)};
    set.documents = static_cast<int64_t>(set.questions.size());
    if (set.questions.empty()) throw FormatError(path, "row 1", "expected a question, found none");
    if (options.limit > 0 && options.limit < set.documents) {
      set.questions.resize(static_cast<size_t>(options.limit));
    }
    const std::string opening = opening_of(folder, subject, set.fewshot);
    for (Question& question : set.questions) put_before(question, opening);
    sets.push_back(std::move(set));
  }
  return sets;
}

}  // namespace

Task mmlu() {
  return {.name = "mmlu",
          .label = "MMLU, accuracy",
          .version = 1.0,
          .asks = Asks::kChoice,
          .read = read};
}

}  // namespace schmidt::eval
