"""Scores a model folder on the example's tasks with lm-eval's own Hugging Face backend.

python examples/skills/score.py runs/skills/model [--split holdout] [--run runs/skills]

With ``--run`` every answer is compared with the one recorded for the run's winner.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import click
import yaml

TASKS = Path(__file__).resolve().parents[2] / "tasks" / "skills"
SKILLS = ("sort", "reverse", "twice")


def evaluate(folder: Path, split: str) -> dict[str, Any]:
    """lm-eval's results of a model folder on the three tasks of a split."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    results: dict[str, Any] = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", batch_size=128),
        tasks=[f"skills_{skill}_{split}" for skill in SKILLS],
        task_manager=TaskManager(include_path=str(TASKS), include_defaults=False),
        bootstrap_iters=0,
    )
    return results


def answers(results: dict[str, Any]) -> dict[tuple[str, int], int | str]:
    """Task and document -> the option chosen or the text written."""
    found: dict[tuple[str, int], int | str] = {}
    for task, samples in results["samples"].items():
        for sample in samples:
            responses = [response[0] for response in sample["resps"]]
            if isinstance(responses[0], str):
                answer: int | str = str(sample["filtered_resps"][0])
            else:
                likelihoods = [float(likelihood) for likelihood, _ in responses]
                answer = likelihoods.index(max(likelihoods))
            found[task, sample["doc_id"]] = answer
    return found


def recorded(run: Path, split: str) -> dict[tuple[str, int], int | str]:
    """The answers that the run's winner gave."""
    trial = yaml.safe_load((run / "best.yml").read_text(encoding="utf-8"))["trial"]
    name = "tasks" if split == "search" else split
    file = run / "documents" / f"trial-{trial:05d}-{name}.jsonl.gz"
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    return {(d["task"], d["doc_id"]): d["answer"] for d in documents}


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--split", type=click.Choice(["search", "validation", "holdout"]), default="holdout")
@click.option("--run", type=click.Path(exists=True, path_type=Path), help="Run folder to compare.")
def main(folder: Path, split: str, run: Path | None) -> None:
    """Scores FOLDER, and compares it with the winner of a run."""
    results = evaluate(folder, split)
    scores = []
    for task, numbers in results["results"].items():
        scores.append(numbers.get("acc,none", numbers.get("exact_match,none")))
        click.echo(f"{task:<28} {scores[-1]:.4f}")
    click.echo(f"{'mean':<28} {sum(scores) / len(scores):.4f}")
    if run is not None:
        found, before = answers(results), recorded(run, split)
        differing = [key for key in before if found.get(key) != before[key]]
        click.echo(f"{len(differing)} of {len(before)} answers differ from the run's")
        if differing:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
