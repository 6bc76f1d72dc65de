from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evomerge.foundations.seeding import stream, stream_seed


@given(st.integers(0), st.text(max_size=9), st.integers(0))
def test_a_seed_fits_every_library_and_depends_on_root_and_labels_only(root, label, trial):
    seed = stream_seed(root, label, trial)
    assert seed == stream_seed(root, label, trial)
    assert 0 <= seed < 2**32


def test_root_and_every_label_change_the_seed():
    seeds = {
        stream_seed(0),
        stream_seed(1),
        stream_seed(0, "merge"),
        stream_seed(0, "optimizer"),
        stream_seed(0, "merge", 1),
        stream_seed(0, "merge", 11),
        stream_seed(0, "merge", 1, 1),
    }
    assert len(seeds) == 7


def test_seeds_never_change_between_versions():
    assert stream_seed(0, "optimizer") == 849078655


def test_streams_of_one_name_draw_the_same_numbers():
    assert stream(3, "optimizer").random(4).tolist() == stream(3, "optimizer").random(4).tolist()
    assert stream(3, "optimizer").random() != stream(3, "merge").random()
