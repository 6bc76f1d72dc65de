from __future__ import annotations

import subprocess
import sys

import pytest

from evomerge.evaluators import EVALUATORS
from evomerge.executors import EXECUTORS
from evomerge.foundations.errors import UnknownNameError
from evomerge.foundations.registry import Registry
from evomerge.merge_spaces import MERGE_SPACES
from evomerge.optimizers import OPTIMIZERS

TABLES = [EVALUATORS, EXECUTORS, MERGE_SPACES, OPTIMIZERS]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.kind)
def test_every_name_of_every_table_leads_to_a_class_and_a_sentence(table):
    for name in table:
        assert isinstance(table[name], type)
        assert len(table.summary(name)) > 10


def test_an_unknown_name_is_answered_with_the_nearest_and_all_known():
    table = Registry("merge tool", {"alpha": "x:Y", "beta": "x:Y"})
    with pytest.raises(
        UnknownNameError,
        match=r"unknown merge tool 'alpa'; did you mean 'alpha'\? \(known: alpha, beta\)",
    ) as raised:
        table["alpa"]
    assert "evomerge list merge_tools" in str(raised.value)


def test_the_table_behaves_as_a_mapping():
    table = Registry("number", {"pi": "math:pi"})
    assert (dict(table), len(table), "pi" in table, "tau" in table) == (
        {"pi": pytest.approx(3.14159, abs=1e-5)},
        1,
        True,
        False,
    )


def test_a_target_is_imported_only_when_it_is_asked_for():
    code = (
        "import sys; from evomerge.foundations.registry import Registry\n"
        "table = Registry('x', {'d': 'decimal:Decimal'}); table.summary('d')\n"
        "assert 'decimal' not in sys.modules; table['d']; assert 'decimal' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
