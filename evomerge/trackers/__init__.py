"""Who listens to a run and keeps it for others: the table of trackers. One file, one line each.

============== =========================================================
name           what it is
============== =========================================================
page           report.html, for people
optuna_journal study.journal, for ``optuna-dashboard`` and Optuna's plots
csv            trials.csv, for spreadsheets and data frames
log            log.txt, what libraries say and where failures come from
============== =========================================================
"""

from evomerge.foundations.registry import Registry
from evomerge.trackers.base import Tracker

TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker",
    {
        "page": "evomerge.trackers.html_page:HtmlPage",
        "optuna_journal": "evomerge.trackers.optuna_journal:OptunaJournal",
        "csv": "evomerge.trackers.trials_csv:TrialsCsv",
        "log": "evomerge.trackers.log_file:LogFile",
    },
)
