"""report.html: the run on one page that needs nothing else, light or dark as its reader's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from evomerge.foundations.files import write_atomic
from evomerge.foundations.reading import real_path
from evomerge.foundations.text_safety import harmless, one_name
from evomerge.nouns.objective import Score
from evomerge.nouns.score_text import gain_text, with_error
from evomerge.nouns.section import FAILED, Section
from evomerge.nouns.trial import Trial
from evomerge.report.choice_section import choice_of
from evomerge.report.combined import combined, combined_name
from evomerge.report.curve import curve_of
from evomerge.report.sections import sections_of
from evomerge.report.split_table import Column, Row, SplitTable, side_by_side
from evomerge.report.summary import failed_finals, headline
from evomerge.report.svg import curve_svg
from evomerge.report.trial_names import trial_notes
from evomerge.report.trial_table import final_tables
from evomerge.report.verdict import LEGEND, verdict
from evomerge.run.recorded_run import RecordedRun

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2024;--soft:#6b7280;--line:#e2e5e9;--back:#fff;
--panel:#f6f7f9;--accent:#0b7a5c;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#9aa2ad;--line:#2e343b;
--back:#15181c;--panel:#1d2126;--accent:#4cc9a0;--bad:#f2857d}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);
max-width:66rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:2rem 0 .5rem}
p.soft,.soft{color:var(--soft)}p.soft{white-space:pre-line}.bad{color:var(--bad)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .8rem .25rem 0;text-align:right;white-space:nowrap;
border-bottom:1px solid var(--line)}
th{font-weight:500;color:var(--soft)}th:first-child,td:first-child,td.text{text-align:left}
td.text{white-space:normal}tr.winner td{font-weight:600}td.top{color:var(--accent)}
.gain{font-weight:400;font-size:13px}
pre{background:var(--panel);padding:1rem;overflow-x:auto;border-radius:6px;font-size:13px}
svg{width:100%;height:auto}svg text{fill:var(--soft);font-size:11px}
.grid{stroke:var(--line)}.level{stroke:var(--soft);stroke-dasharray:3 4;opacity:.7}
.error{stroke:var(--soft);opacity:.25}
.trial{fill:var(--soft);opacity:.75}.best{fill:none;stroke:var(--accent);stroke-width:2}
svg text.failed{fill:var(--bad)}
"""


def write_report(run: RecordedRun) -> None:
    """Replaces report.html of a run folder."""
    write_atomic(run.ledger.folder.report, harmless(report_html(run)))


def report_html(run: RecordedRun) -> str:
    """The page of a run."""
    header = run.ledger.header
    name = escape(one_name(real_path(run.ledger.folder.path).name))
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>evomerge: {name}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{name}</h1>",
            f'<p class="soft">{escape(headline(run))}</p>',
            *_final(run),
            "<h2>Convergence</h2>",
            curve_svg(curve_of(run)),
            *map(_section, sections_of(run)),
            *(_recipe(trial) for trial in run.winners[:1]),
            "<h2>Trials</h2>",
            _trials(run),
            f'<p class="soft">{escape(_versions(header["versions"]))}</p></body></html>',
        ]
    )


def _final(run: RecordedRun) -> Iterator[str]:
    tables = final_tables(run)
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in _paragraphs(run, tables))
    told = f'{sentences}<p class="soft">{escape(LEGEND)}.</p>'
    if len(tables) > 1:
        yield f"<h2>Result</h2>{told}{_split(side_by_side(tables))}"
    for table in tables:
        below = "" if len(tables) > 1 else told
        yield f"<h2>{table.title.capitalize()} tasks</h2>{below}{_split(table)}"


def _paragraphs(run: RecordedRun, tables: Sequence[SplitTable]) -> Iterator[str]:
    """Whether searching paid, and how sure the winner is."""
    choice = choice_of(run)
    yield from failed_finals(run)
    yield " ".join(verdict(tables))
    if choice is not None and choice.sentences:
        yield " ".join(choice.sentences)


def _versions(versions: dict[str, str]) -> str:
    return " · ".join(f"{package} {version}" for package, version in versions.items())


def _split(table: SplitTable) -> str:
    rows = []
    for row in table.rows:
        cells = [_cell(escape(row.name))]
        for column, score in enumerate(row.scores):
            if score is None:
                cells.append(_cell("not scored", "soft"))
                continue
            is_top = score.value == table.best_in(column)
            gain = _gain(table, row, column)
            cells.append(_cell(_score(score) + gain, "top" if is_top else ""))
        kind = ' class="winner"' if row.is_winner else ""
        rows.append(f"<tr{kind}>{''.join(cells)}</tr>")
    return _table(["", *(_title(column) for column in table.columns)], rows)


def _gain(table: SplitTable, row: Row, column: int) -> str:
    """What an objective gained over the best parent, on a line of its own below the score."""
    parent, gain = table.parents[column], row.gains[column]
    if parent is None or not table.columns[column].is_objective:
        return ""
    told = f"best parent: {parent}" if gain is None else f"{gain_text(gain)} to {parent}"
    return f'<br><span class="soft gain">{escape(told)}</span>'


def _title(column: Column) -> str:
    return f"{column.name} {column.metric}".rstrip()


def _score(score: Score) -> str:
    return f'{with_error(score)} <span class="soft">n={score.n}</span>'


def _section(section: Section) -> str:
    """What an optimizer tells of itself."""
    rows = [
        f"<tr>{''.join(_cell(escape(cell), 'bad' if cell == FAILED else '') for cell in row)}</tr>"
        for row in section.rows
    ]
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in section.notes)
    title = section.title[0].upper() + section.title[1:]
    return f"<h2>{escape(title)}</h2>{_table(section.head, rows)}{notes}"


def _recipe(trial: Trial) -> str:
    return (
        f"<h2>Recipe of trial {trial.candidate.trial_id}</h2>"
        f"<pre>{escape(trial.candidate.recipe.to_yaml())}</pre>"
    )


def _trials(run: RecordedRun) -> str:
    objective = run.leaderboard.objective
    head = ["trial", combined_name(objective), *(t.name for t in objective.tasks), "seconds"]
    names = trial_notes(run.leaderboard.trials)
    return _table([*head, ""], _trial_rows(run, names))


def _trial_rows(run: RecordedRun, names: dict[int, str]) -> Iterator[str]:
    objective = run.leaderboard.objective
    for trial in run.leaderboard.trials:
        trial_id, outcome = trial.candidate.trial_id, trial.outcome
        cells = [_cell(str(trial_id))]
        if outcome.evaluation is None:
            cells += [_cell("failed", "bad")] + [_cell("")] * len(objective.tasks)
        else:
            scores = (*combined(objective).scores(outcome.evaluation)[:1],)
            scores += objective.task_scores(outcome.evaluation)
            cells += [_cell(_score(score)) for score in scores]
        cells.append(_cell(f"{sum(outcome.seconds.values()):.2f}"))
        cells.append(_cell(escape(outcome.failure or names.get(trial_id, "")), "text soft"))
        yield f"<tr>{''.join(cells)}</tr>"


def _cell(content: str, kind: str = "") -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
