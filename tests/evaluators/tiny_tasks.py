"""Small lm-eval tasks of every kind, written to a folder as YAML and JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

WORDS = ("quick", "brown", "lazy", "dog", "fox", "jugs", "dozen", "five", "zebras", "liquor")
CHAT_TEMPLATE = (
    "{% for turn in messages %}<{{ turn.role }}> {{ turn.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
N_DOCUMENTS = 20

_SHARED = """
dataset_path: json
dataset_kwargs: {data_files: {train: FOLDER/train.jsonl, test: FOLDER/test.jsonl}}
training_split: train
test_split: test
fewshot_split: train
doc_to_text: "the {{a}} and the {{b}} then"
"""
_CHOICE = """
task: tiny_choice
tag: tiny_choices
output_type: multiple_choice
doc_to_choice: options
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""
_TASKS = {
    "choice": _CHOICE,
    "other_choice": _CHOICE.replace("tiny_choice\n", "tiny_other_choice\n")
    .replace("doc_to_choice: options", 'doc_to_choice: ["fox", "the lazy dog", "jump"]')
    .replace("doc_to_target: answer", "doc_to_target: 1"),
    "text": """
task: tiny_text
output_type: generate_until
doc_to_target: target
generation_kwargs: {until: ["e", "\\n"], max_gen_toks: 12}
filter_list:
  - name: whole
    filter: [{function: take_first}]
  - name: first-letter
    filter: [{function: regex, regex_pattern: "([a-z])"}, {function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
""",
    "likelihood": """
task: tiny_likelihood
output_type: loglikelihood
doc_to_target: "{{options[answer]}}"
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
""",
    "rolling": """
task: tiny_rolling
output_type: loglikelihood_rolling
doc_to_target: "how {{a}} and {{b}} then jump over the lazy dog"
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "undirected": """
task: tiny_undirected
output_type: multiple_choice
doc_to_choice: options
doc_to_target: answer
process_results: !function functions.share
metric_list: [{metric: share, aggregation: mean, higher_is_better: null}]
""",
}
_GROUPS = {
    "group": """
group: tiny_group
task: [tiny_choice, tiny_other_choice]
aggregate_metric_list: [{metric: acc, weight_by_size: false}]
""",
    "bare_group": """
group: tiny_bare_group
task: [tiny_choice, tiny_likelihood]
""",
}


def _document(index: int) -> dict[str, object]:
    words = [WORDS[(index * step + step) % len(WORDS)] for step in (1, 3, 7)]
    options = [words[0], f"{words[1]} {words[2]}", "the other animals", words[2]]
    return {
        "a": words[1],
        "b": words[2],
        "options": options,
        "answer": index % 4,
        "target": "abcdefghij"[index % 10],
    }


def write_tasks(folder: Path) -> Path:
    """Writes all tasks and their documents; returns ``folder``."""
    documents = [_document(index) for index in range(N_DOCUMENTS + 8)]
    for name, part in (("test", documents[:N_DOCUMENTS]), ("train", documents[N_DOCUMENTS:])):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)))
    for name, text in _TASKS.items():
        (folder / f"{name}.yaml").write_text((_SHARED + text).replace("FOLDER", str(folder)))
    for name, text in _GROUPS.items():
        (folder / f"{name}.yaml").write_text(text)
    (folder / "functions.py").write_text("def share(doc, results):\n    return {'share': 1.0}\n")
    return folder
