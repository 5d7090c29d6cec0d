"""ARC, PIQA, WinoGrande, OpenBookQA and LAMBADA in the hub's form, made of MMLU and HellaSwag.

    python python/made_benchmarks.py ../shared/data/benchmarks -o made
    python python/compare_harness.py MODEL --data made --tasks arc_easy:100,piqa:100

For machines that do not have the data sets themselves: two programs can be compared on such lines
(compare_harness.py), a model cannot be judged by them. HellaSwag is read as files with `query`,
`choices` and `gold` have it.
"""

import argparse
import csv
import json
from pathlib import Path

from compare_harness import lines

TRAIN = 10  # lines for worked examples; the others are asked


def mmlu(data: Path) -> list[dict]:
    """Questions of all subjects in turn: question, four choices, the right one's number."""
    subjects = []
    for path in sorted((data / "mmlu" / "test").glob("*.csv")):
        with open(path, newline="", encoding="utf-8") as file:
            subjects.append([{"question": row[0], "choices": row[1:5],
                              "answer": "ABCD".index(row[5])} for row in csv.reader(file)])
    fewest = min(len(subject) for subject in subjects)
    return [subject[i] for i in range(fewest) for subject in subjects]


def hellaswag(data: Path) -> list[dict]:
    return [line for path in sorted((data / "hellaswag").glob("*.jsonl")) for line in lines(path)]


def lettered(line: dict, labels: str, asked: str) -> dict:
    return {asked: line["question"], "answerKey": labels[line["answer"]],
            "choices": {"text": line["choices"], "label": list(labels)}}


def goal(line: dict, number: int) -> dict:
    gold = line["choices"][line["gold"]]
    other = line["choices"][(line["gold"] + 1) % len(line["choices"])]
    first, second = (gold, other) if number % 2 == 0 else (other, gold)
    return {"goal": line["query"], "sol1": first, "sol2": second, "label": number % 2}


def blank(line: dict, number: int) -> dict:
    words = line["query"].split()
    at = len(words) // 2
    options = [words[at], words[at - 1]] if number % 2 == 0 else [words[at - 1], words[at]]
    return {"sentence": " ".join(words[:at] + ["_"] + words[at + 1:]), "option1": options[0],
            "option2": options[1], "answer": str(number % 2 + 1)}


def passage(line: dict) -> dict:
    return {"text": f"{line['query']} {line['choices'][line['gold']]}".rstrip(" .!?\"')")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=200, help="of each")
    options = parser.parse_args()

    count = options.lines + TRAIN
    questions, stories = mmlu(options.data), hellaswag(options.data)[:count]
    easy, challenge, open_book = (questions[i * count:(i + 1) * count] for i in range(3))
    made = {
        "arc_easy": [lettered(line, "ABCD", "question") for line in easy],
        "arc_challenge": [lettered(line, "1234", "question") for line in challenge],
        "openbookqa": [lettered(line, "ABCD", "question_stem") for line in open_book],
        "piqa": [goal(line, i) for i, line in enumerate(stories)],
        "winogrande": [blank(line, i) for i, line in enumerate(stories)],
        "lambada_openai": [passage(line) for line in stories],
    }
    asked = {"piqa": "validation", "winogrande": "validation"}
    for name, documents in made.items():
        folder = options.out / name
        folder.mkdir(parents=True, exist_ok=True)
        for split, part in ((asked.get(name, "test"), documents[TRAIN:]), ("train", documents[:TRAIN])):
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in part)
            (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
