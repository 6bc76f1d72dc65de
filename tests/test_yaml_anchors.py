"""Anchors, aliases and merge keys mean in evomerge's reader what they mean in YAML."""

from __future__ import annotations

import pytest
import yaml

from evomerge.foundations.errors import GenomeError
from evomerge.genome.load import load_genome
from evomerge.genome.source import MAX_NODES, parse_yaml

DOCUMENTS = {
    "a merge": "a: &A {x: 1, y: 2}\nb: {<<: *A, y: 3, z: 4}\n",
    "written after its own keys": "a: &A {x: 1, y: 2}\nb:\n  y: 3\n  <<: *A\n",
    "a list of merges": "a: &A {x: 1, y: 2}\nb: &B {y: 5, z: 6}\nc: {<<: [*A, *B], w: 0}\n",
    "a merge in what is merged": "a: &A {x: 1}\nb: &B {<<: *A, y: 2}\nc: {<<: *B, x: 9}\n",
    "a merge written in place": "b: {<<: {x: 1, y: 2}, y: 3}\n",
    "a list that holds a merged one": "a: &A [1, 2]\nb: {<<: {x: *A}, y: *A}\n",
    "a quoted one is a key": "a: &A {x: 1}\nb: {'<<': *A}\n",
    "scalars": "m: &M org/a\nmodels: [{model: *M}, *M]\n",
    "nothing to merge": "a: &A {}\nb: {<<: *A, x: 1}\n",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_means_what_mergekits_reader_makes_of_it(name):
    assert parse_yaml(DOCUMENTS[name], "some.yml").data == yaml.safe_load(DOCUMENTS[name])


def test_a_merged_key_has_the_line_it_is_written_on():
    source = parse_yaml("a: &A\n  x: 1\nb:\n  <<: *A\n", "some.yml")
    assert source.where(("b", "x")) == "some.yml:2: b.x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {<<: 7}\n", "some.yml:1: a.<<: a merge key takes one mapping or a list of them"),
        ("a: &A {x: 1}\nb: {<<: *A, <<: *A}\n", "some.yml:2: b.<<: stands twice"),
        ("a: &A {x: 1}\nb: {<<: *A, x: 1, x: 2}\n", "key 'x' stands twice"),
        ("a: &A\n  <<: *A\n", "nested deeper than"),
        ("a: 1\n---\nb: 2\n", r"some.yml:2: holds several YAML documents, expected one"),
    ],
)
def test_what_yaml_does_not_allow_is_told(text, message):
    with pytest.raises(GenomeError, match=message):
        parse_yaml(text, "some.yml")


def test_merges_of_merges_count_as_often_as_they_are_used():
    lines = ["a0: &A0 {x: 1}"]
    lines += [f"a{n}: &A{n} {{<<: [{', '.join([f'*A{n - 1}'] * 10)}]}}" for n in range(1, 9)]
    with pytest.raises(GenomeError, match=f"more than {MAX_NODES} values"):
        parse_yaml("\n".join(lines), "bomb.yml")


def loaded(tmp_path, text):
    (tmp_path / "genome.yml").write_text(text)
    return load_genome(tmp_path / "genome.yml")


HELPED = """\
shared: &SOURCES
  models:
    - model: org/a
      parameters: &WIDE {weight: {range: [0, 2]}}
    - {model: org/b, parameters: {<<: *WIDE, density: 0.5}}
  base_model: &BASE org/base
genome:
  shared_types: &DTYPES {dtype: bfloat16, out_dtype: bfloat16}
  <<: [*SOURCES, *DTYPES]
  merge_method: ties
  normalize: false
  tokenizer_source: *BASE
tasks: [arc_easy]
"""


def test_a_genome_may_have_helpers_and_merge_keys(tmp_path):
    genome, source = loaded(tmp_path, HELPED)
    plain = yaml.safe_load(HELPED)
    del plain["shared"], plain["genome"]["shared_types"]
    assert source.data == plain
    assert genome.genome.models[1].parameters["weight"].entries[0].range == (0, 2)
    assert genome.genome.dtype == "bfloat16"


@pytest.mark.parametrize(
    "text",
    [
        HELPED.replace("shared: &", "task: &"),  # it may be a known key, misspelt
        HELPED.replace("shared_types: &", "filter: &"),
        HELPED + "notes: {one: &ONE 1, other: *ONE}\n",  # lends to nobody else
        HELPED + "notes: {tasks: 7}\n",
    ],
)
def test_an_unknown_key_that_is_no_helper_is_told(tmp_path, text):
    with pytest.raises(GenomeError, match=r"unknown key|is no key of this block"):
        loaded(tmp_path, text)
