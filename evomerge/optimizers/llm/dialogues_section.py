"""What a language model was asked and what came of it, generation by generation."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evomerge.foundations.counted import counted
from evomerge.foundations.errors import LedgerError
from evomerge.foundations.reading import read_bytes
from evomerge.foundations.text_safety import one_line
from evomerge.nouns.run_record import RunRecord
from evomerge.nouns.section import Section
from evomerge.optimizers.llm.record import Usage, records_in

_DAMAGE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    RecursionError,
    OverflowError,
)
_NO_TIME = "no time"  # a generation that ended before its first request


def dialogues_section(run: RunRecord) -> Section | None:
    """Requests, tokens and fallbacks of each generation.

    Raises:
        LedgerError: what was kept of one is broken.
    """
    entries = [
        _read(link, path) for link, folder in run.kept_by("llm") for path in records_in(folder)
    ]
    if not entries:
        return None
    return Section(
        "llm",
        "language model: what each generation took, and why it fell back",
        ("generation", "sigma", "requests", "tokens", "seconds", "fell back", "mended"),
        tuple(map(_row, entries)),
        tuple(_notes(entries)),
        {"generations": entries, "total": _total(entries)},
    )


def _read(link: int, path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(read_bytes(path, follow=False))
        causes = [_cause(attempt) for attempt in kept["attempts"]]
        is_fallback = bool(kept["is_fallback"])
        bill = kept["bill"]
        return {
            "link": link,
            "generation": int(kept["generation"]),
            "model": one_line(str(kept["model"])),
            "sigma": float(kept["sigma"]),
            "n_requests": len(causes),
            "prompt_tokens": int(bill["prompt_tokens"]),
            "completion_tokens": int(bill["completion_tokens"]),
            "seconds": float(bill["seconds"]),
            "cost": bill.get("cost"),
            "fallback": (causes[-1] if causes else _NO_TIME) if is_fallback else "",
            "causes": [cause for cause in causes if cause],
        }
    except _DAMAGE as error:
        raise LedgerError(
            f"cannot be read as what the model proposed ({type(error).__name__})",
            where=str(path),
            fix="Put the file back as it was, or start a new run folder.",
        ) from error


def _cause(attempt: Mapping[str, Any]) -> str:
    """Why an attempt is no proposal, in a word or two; empty if it is one."""
    return one_line(str(attempt.get("cause") or attempt["problem"]))


def _row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    mended = () if entry["fallback"] else entry["causes"]
    return (
        str(entry["generation"]),
        f"{entry['sigma']:g}",
        str(entry["n_requests"]),
        f"{entry['prompt_tokens'] + entry['completion_tokens']:,}",
        f"{entry['seconds']:.1f}",
        entry["fallback"],
        ", ".join(mended),
    )


def _notes(entries: list[dict[str, Any]]) -> Iterator[str]:
    total = _total(entries)
    cost = "" if total["cost"] is None else f", cost {total['cost']:.4g}"
    yield (
        f"{counted(len(entries), 'generation')} of {entries[-1]['model']}: "
        f"{counted(total['n_requests'], 'request')}, {total['prompt_tokens']:,} tokens of "
        f"prompts and {total['completion_tokens']:,} of replies{cost}, {total['seconds']:.1f} s"
    )
    reasons = total["fallbacks"]
    if reasons:
        told = ", ".join(f"{cause} ({n})" for cause, n in reasons.items())
        yield f"{sum(reasons.values())} fell back to a step around the best trial: {told}"


def _total(entries: list[dict[str, Any]]) -> dict[str, Any]:
    bill = Usage()
    for entry in entries:
        bill += Usage(entry["prompt_tokens"], entry["completion_tokens"], entry["seconds"])
    costs = [entry["cost"] for entry in entries if entry["cost"] is not None]
    return {
        "n_requests": sum(entry["n_requests"] for entry in entries),
        "prompt_tokens": bill.prompt_tokens,
        "completion_tokens": bill.completion_tokens,
        "seconds": round(bill.seconds, 3),
        "cost": sum(costs) if costs else None,
        "fallbacks": dict(Counter(e["fallback"] for e in entries if e["fallback"]).most_common()),
    }
