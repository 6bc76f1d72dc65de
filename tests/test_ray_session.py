"""The connection to a Ray cluster, without one: what is made of a head that does not answer."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from evomerge.executors import ray_session
from evomerge.executors.ray_session import RaySession
from evomerge.executors.ray_settings import RaySettings
from evomerge.foundations.errors import RunError

ray = pytest.importorskip("ray")


def test_a_head_is_gone_once_it_is_silent_for_long_whenever_it_was_asked_before(monkeypatch):
    now, answering = [1000.0], [True]
    context = SimpleNamespace(gcs_address="host:1")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray_session, "monotonic", lambda: now[0])
    monkeypatch.setattr(ray_session, "answers", lambda address: answering[0])
    session = RaySession(RaySettings())

    def look(seconds):
        now[0] += seconds
        session.refuse_lost_head()

    look(0)
    for _ in range(2):
        answering[0] = False
        look(600)  # an epoch was trained meanwhile: nobody looked
        look(6)
        look(6)
        answering[0] = True
        look(6)
    answering[0] = False
    look(600)
    look(14)
    with pytest.raises(RunError, match="the head of the Ray cluster at host:1 is gone"):
        look(6)
