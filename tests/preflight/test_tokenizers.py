"""What is said of tokenizers, by what the genome chooses."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

from mergekit.merge import _set_chat_template

from evomerge.foundations.findings import Severity
from tests.preflight.test_models import more_rows, slow_only
from tests.preflight.variants import check, in_json, lines, removed, token, variant, written

JINJA = "chat_template.jinja"


def test_another_vocabulary_is_fine_once_the_genome_chooses_one(base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other", more_rows(104), token(96, "<tool>"))
    assert "has vocab_size 104" in lines(check([base, other]), Severity.ERROR)
    for choice in ({"tokenizer_source": "union"}, {"tokenizer": {"source": "base"}}):
        assert lines(check([base, other], **choice), Severity.ERROR) == ""


def test_the_first_differing_token_is_named_with_both_ids(base, tuned, tmp_path):
    one = variant(base, tmp_path / "one", more_rows(104), token(96, "<a>"))
    two = variant(tuned, tmp_path / "two", more_rows(104), token(96, "<b>"))
    found = lines(check([one, two]), Severity.ERROR)
    assert f"{two} has 2 tokens not as in {one}, first '<a>': id None, expected 96" in found


def test_padded_rows_that_would_be_cut_off_are_told(base, tuned, tmp_path):
    padded = [variant(m, tmp_path / m.name, more_rows(128)) for m in (base, tuned)]
    assert lines(check(padded), Severity.WARNING) == ""
    found = lines(check(padded, tokenizer_source="base"), Severity.WARNING)
    assert "genome.tokenizer_source: " in found
    assert "has 128 rows for 96 tokens; with a tokenizer named, mergekit cuts the others" in found
    block = {"source": "base", "pad_to_multiple_of": 64}
    assert lines(check(padded, tokenizer=block), Severity.WARNING) == ""


def test_a_slow_tokenizer_is_told_where_it_counts(base, tuned, tmp_path):
    slow = variant(tuned, tmp_path / "slow", slow_only)
    assert "has only a slow tokenizer" in lines(check([slow, base]))
    found = lines(check([base, slow]))
    assert "the vocabulary of" in found
    assert "cannot be compared" in found


def test_equal_slow_tokenizers_are_equal(base, tuned, tmp_path):
    slow = [variant(m, tmp_path / m.name, slow_only) for m in (base, tuned)]
    assert "cannot be compared" not in lines(check(slow))


def test_a_model_without_tokenizer_files_is_refused(base, tuned, tmp_path):
    bare = variant(tuned, tmp_path / "bare", removed("tokenizer.json", "tokenizer_config.json"))
    assert f"{bare} has no tokenizer files" in lines(check([bare, base]), Severity.ERROR)
    assert f"{bare} has no tokenizer files" in lines(check([base, bare]), Severity.ERROR)


def test_several_chat_templates_are_told_unless_the_genome_chooses(base, tuned, tmp_path):
    one = variant(base, tmp_path / "one", written(JINJA, "{{ a }}"))
    two = variant(tuned, tmp_path / "two", written(JINJA, "{{ b }}"))
    same = variant(
        tuned, tmp_path / "same", in_json("tokenizer_config.json", chat_template="{{ a }}")
    )
    assert "the models have 2 chat templates" in lines(check([one, two]))
    assert lines(check([one, two], chat_template="auto")) == ""
    assert lines(check([one, same])) == ""


def test_a_slow_vocabulary_is_read_from_vocab_json(base, tuned, tmp_path):
    def plain(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text('{"a": 0, "b": 1}')

    one = variant(base, tmp_path / "one", plain)
    two = variant(tuned, tmp_path / "two", plain, in_json("added_tokens.json", **{"<c>": 2}))
    found = lines(check([one, two]), Severity.ERROR)
    assert "has 1 token not as in" in found
    assert "first '<c>': id 2, expected None" in found


def test_a_tokenizer_that_is_not_there_is_refused(base, tuned, tmp_path):
    bare = variant(base, tmp_path / "bare", removed("tokenizer.json"))
    for wrong, why in (
        ("unionn", "did you mean 'union'?"),
        (f"{tmp_path}/none", "there is no folder"),
        (str(bare), "it has no tokenizer files"),
        ("a+b+c", "no name of a model"),
        ("half.yml", "it is a recipe, which is built where it is merged, too"),
    ):
        for choice, key in (
            ({"tokenizer_source": wrong}, "genome.tokenizer_source"),
            ({"tokenizer": {"source": wrong}}, "genome.tokenizer.source"),
        ):
            found = lines(check([base, tuned], **choice), Severity.ERROR)
            assert f"{key}: got {wrong!r}, expected union, base, or a model" in found
            assert why in found
    other = variant(base, tmp_path / "other")
    for right in ("union", "base", str(tuned), str(other)):
        assert lines(check([base, tuned], tokenizer_source=right), Severity.ERROR) == ""


def test_a_chat_template_is_what_mergekit_takes(base, tuned):
    taker = Mock()
    for text in ("nope", "{{ a }}", "chatm", "no template, however long it is", "chatml", "auto"):
        found = lines(check([base, tuned], chat_template=text), Severity.ERROR)
        merge = Mock(chat_template=text, referenced_models=list)
        try:
            _set_chat_template(taker, merge)
        except RuntimeError:
            assert f"genome.chat_template: got {text!r}, expected auto, alpaca, chatml" in found
        else:
            assert found == ""
    assert "did you mean 'chatml'?" in lines(check([base, tuned], chat_template="chatm"))
    jinja = "{% for message in messages %}{{ message.content }}{% endfor %}"
    assert lines(check([base, tuned], chat_template=jinja)) == ""


def test_no_tokenizer_is_advised_where_a_space_takes_none(base, tuned, tmp_path):
    other = variant(tuned, tmp_path / "other", more_rows(104), token(96, "<tool>"))
    for space, why in (
        ("layers", "Models of a path have one vocabulary, whichever layers run"),
        ("soup", "Models of a soup have one vocabulary, whichever of them are in"),
        ("mixture", "A mixture adds probabilities token by token"),
    ):
        found = lines(check([base, other], space=space, merge_method=""), Severity.ERROR)
        assert f"{why}: take models with one tokenizer." in found
        assert "tokenizer_source" not in found
    templates = [variant(m, tmp_path / f"t{m.name}", written(JINJA, str(m))) for m in (base, tuned)]
    found = lines(check(templates, space="mixture", merge_method=""))
    assert "the models have 2 chat templates" in found
    assert "Set chat_template" not in found
