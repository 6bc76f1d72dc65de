"""After the search: validation has a say in who wins, holdout looks at the winner once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

from evomerge.executors.base import Job, JobFinished
from evomerge.nouns.evaluation import Outcome
from evomerge.nouns.events import Event, FinalScored
from evomerge.nouns.objective import Objective
from evomerge.nouns.trial import Candidate, Trial
from evomerge.run.final_choice import FinalChoice, finalists
from evomerge.run.leaderboard import Leaderboard, anchored
from evomerge.run.ledger.history import Ledger
from evomerge.run.search_documents import SearchDocuments

Work = Callable[[Sequence[Job]], Iterator[Event | JobFinished]]  # has jobs done
Keep = Callable[[Outcome, bool], Iterator[Event]]  # hears of an outcome, and whether it is new


@dataclass(frozen=True)
class Finals:
    """The splits that did not steer the search.

    Attributes:
        leaderboard: How the search ended.
        ledger: Where outcomes are kept, and taken from where they are known.
        objectives: Split -> objective.
        count: Finalists that validation sees at least.
    """

    leaderboard: Leaderboard
    ledger: Ledger
    objectives: Mapping[str, Objective]
    count: int

    def run(self, work: Work, keep: Keep) -> Generator[Event, None, list[Trial]]:
        """Scores what is not known yet; the winners, best first."""
        if "validation" in self.objectives:
            compare = SearchDocuments(self.ledger, self.leaderboard.objective)
            best = finalists(self.leaderboard, self.count, compare)
            beside = FinalChoice(self.leaderboard).beside
            yield from self._score("validation", [*beside, *best], work, keep)
        validated = self.ledger.final_outcomes("validation")
        objective = self.objectives.get("validation")
        choice = FinalChoice(self.leaderboard, objective, validated, self.count)
        if "holdout" in self.objectives:
            yield from self._score("holdout", [*choice.beside, *choice.winners], work, keep)
        return choice.winners

    def _score(
        self, split: str, trials: Sequence[Trial], work: Work, keep: Keep
    ) -> Generator[Event, None, None]:
        """Scores trials, baselines first: an objective may be scaled by them."""
        jobs = []
        for trial in {t.candidate.trial_id: t for t in trials}.values():
            candidate = trial.candidate
            recorded = self.ledger.finals.get((split, candidate.trial_id))
            recorded = recorded or self.ledger.final_again(split, candidate.trial_id)
            known = self.ledger.known_outcome(split, candidate.recipe.digest)
            if recorded is not None:
                yield from self._final(candidate, split, recorded, keep, was_recorded=True)
            elif known is not None:
                yield from self._final(candidate, split, known, keep)
            else:
                jobs.append(Job(candidate, split))
        for event in work(jobs):
            if isinstance(event, JobFinished):
                yield from self._final(event.job.candidate, split, event.outcome, keep)
            else:
                yield event

    def _final(
        self,
        candidate: Candidate,
        split: str,
        outcome: Outcome,
        keep: Keep,
        *,
        was_recorded: bool = False,
    ) -> Iterator[Event]:
        if not was_recorded:
            self.ledger.record_final(candidate.trial_id, split, outcome)
        yield from keep(outcome, not was_recorded)
        evaluation = outcome.evaluation
        outcomes = self.ledger.final_outcomes(split)
        objective = anchored(self.objectives[split], self.leaderboard.trials, outcomes)
        scores = () if evaluation is None else objective.scores(evaluation)
        yield FinalScored(candidate, split, scores, outcome.failure)
