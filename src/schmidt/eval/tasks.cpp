#include "schmidt/eval/tasks.h"

#include <array>
#include <utility>

#include "schmidt/base/named.h"
#include "schmidt/eval/tasks/arc.h"
#include "schmidt/eval/tasks/boolq.h"
#include "schmidt/eval/tasks/gsm8k.h"
#include "schmidt/eval/tasks/hellaswag.h"
#include "schmidt/eval/tasks/lambada.h"
#include "schmidt/eval/tasks/mmlu.h"
#include "schmidt/eval/tasks/openbookqa.h"
#include "schmidt/eval/tasks/piqa.h"
#include "schmidt/eval/tasks/triviaqa.h"
#include "schmidt/eval/tasks/winogrande.h"

namespace schmidt::eval {

std::span<const Task> tasks() {
  static const std::array<Task, 12> kTasks = {
      mmlu(),       hellaswag(),  boolq(),          triviaqa(),
      gsm8k(),      arc_easy(),   arc_challenge(),  piqa(),
      winogrande(), openbookqa(), lambada_openai(), lambada_standard()};
  return kTasks;
}

const Task& find_task(std::string_view name) { return find_named(tasks(), name, "task"); }

std::vector<Question> all_questions(std::vector<QuestionSet> sets) {
  std::vector<Question> all;
  for (QuestionSet& set : sets) {
    for (Question& question : set.questions) all.push_back(std::move(question));
  }
  return all;
}

}  // namespace schmidt::eval
