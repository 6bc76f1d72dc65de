"""Why a task cannot be built, in a sentence with what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from importlib.metadata import requires
from typing import Any

import yaml
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from huggingface_hub.errors import OfflineModeIsEnabled
from jinja2 import TemplateError
from lm_eval.config.task import TaskConfig

from evomerge.evaluators.lm_eval.blame import whereabouts
from evomerge.foundations.errors import Problem, nearest

_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")
_UNKNOWN_KEY = re.compile(r"TaskConfig.*unexpected keyword argument '(\w+)'")
_REASON_SHOWN = 300  # characters

Sentence = tuple[str, str]  # what is wrong, what to do


def problem_of(
    error: BaseException, name: str, where: str, config: Mapping[str, Any] | None = None
) -> Problem:
    """What to say of a task whose definition raised.

    Args:
        error: What came out of lm-eval, datasets or the task's own code.
        name: Of the task.
        where: Its place in the genome.
        config: Its YAML as far as it could be read.
    """
    for cause in _causes(error):
        for explain in _EXPLANATIONS:
            found = explain(cause, config or {})
            if found is not None:
                what, fix = found
                return Problem(f"task {name!r} {what}", where, fix)
    return Problem(f"task {name!r} cannot be built ({whereabouts(error)})", where)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, then what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _package(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if isinstance(error, ImportError) and "for function" in str(error):
        module = str(error).split("'")[1]
        return f"calls {module}.py, which is not beside its YAML", "Add the file, or mend the name."
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    package = error.name.partition(".")[0]
    return f"needs the package {package!r}, which is not installed", f"Run `{_install(package)}`."


def _install(package: str) -> str:
    """The command that brings a package, by the extra of lm-eval that names it if there is one."""
    for requirement in requires("lm_eval") or []:
        name, _, condition = requirement.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", condition)
        if extra and re.match(rf"{re.escape(package)}\b", name.strip(), re.IGNORECASE):
            return f"pip install 'lm-eval[{extra.group(1)}]'"
    return f"pip install {package}"


def _function(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    found = re.search(r"[Mm]odule '?(\S+?)'? has no function '(\w+)'", str(error))
    if not isinstance(error, AttributeError) or found is None:
        return None
    module, function = found.groups()
    return f"calls {function!r}, which {module} does not have", "Mend the name after !function."


def _script(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if "Dataset scripts are no longer supported" not in str(error):
        return None
    return (
        f"reads {_dataset(config)}, which is a loading script; datasets 4 runs none",
        "Point its dataset_path to data files (parquet, json) or to a converted repository.",
    )


def _unreachable(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, (OfflineModeIsEnabled, ConnectionError)):
        return None
    return (
        f"reads {_dataset(config)}, which is not on this machine, and the Hub is out of reach",
        "Run once with the network on and without HF_HUB_OFFLINE; data is then kept.",
    )


def _refused(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if "429" not in str(error) or "Too Many Requests" not in str(error):
        return None
    return (
        f"reads {_dataset(config)}, and the Hub takes no more requests for now",
        "Wait some minutes, or log in with `hf auth login`.",
    )


def _not_on_hub(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, DatasetNotFoundError):
        return None
    return (
        f"reads {_dataset(config)}, which does not exist or needs an account with access",
        "Check its dataset_path; for a gated one run `hf auth login`.",
    )


def _no_file(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, FileNotFoundError):
        return None
    named = re.search(r"'([^']+)'", str(error))
    file = error.filename or (named.group(1) if named else "")
    return f"needs the file {str(file)!r}, which is not there", "Mend the path in its YAML."


def _no_split(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    split = error.args[0] if isinstance(error, KeyError) and error.args else None
    key = next((key for key in _SPLITS if split is not None and config.get(key) == split), None)
    if key is None:
        return None
    return f"has {key}: {split}, and its dataset has no such split", "Mend it in its YAML."


def _unknown_key(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    found = _UNKNOWN_KEY.search(str(error))
    if found is None:
        return None
    hint = nearest(found.group(1), [field.name for field in fields(TaskConfig)])
    return f"has the unknown key {found.group(1)!r}{hint}", "Mend it in its YAML."


def _filter(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    found = re.match(r"Unknown filter '([^']+)'.*Available: (.*)", text, re.DOTALL)
    if found is None:
        return None
    name, known = found.groups()
    hint = nearest(name, known.split(", "))
    return f"has the unknown filter {name!r}{hint} (known: {known})", "Mend it in its YAML."


def _yaml(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, yaml.YAMLError):
        return None
    mark = getattr(error, "problem_mark", None)
    place = f"{mark.name}:{mark.line + 1}: " if mark is not None else ""
    reason = getattr(error, "problem", None) or _first_line(error)
    return f"has a file that is not YAML ({place}{reason})", "Mend the file."


def _no_documents(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, StopIteration) and "corresponds to no data" not in str(error):
        return None
    return f"reads {_files(config)}, which hold no documents", "Put documents into them."


def _broken_data(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, DatasetGenerationError):
        return None
    reason = _first_line(error.__cause__ or error)
    return f"reads {_files(config)}, which cannot be read ({reason})", "Mend the data."


def _template(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if not isinstance(error, TemplateError):
        return None
    return (
        f"has a template that fails ({whereabouts(error)})",
        "Mend doc_to_text, doc_to_target or doc_to_choice in its YAML.",
    )


def _unsafe_metric(error: BaseException, config: Mapping[str, Any]) -> Sentence | None:
    if "HF_ALLOW_CODE_EVAL" not in str(error):
        return None
    return (
        "runs code that the model wrote, which its metric refuses by default",
        "Add --confirm-run-unsafe-code if it may, best inside a container.",
    )


_EXPLANATIONS: tuple[Callable[[BaseException, Mapping[str, Any]], Sentence | None], ...] = (
    _package,
    _function,
    _script,
    _refused,
    _unreachable,
    _not_on_hub,
    _no_file,
    _no_split,
    _unknown_key,
    _filter,
    _yaml,
    _no_documents,
    _broken_data,
    _template,
    _unsafe_metric,
)


def _dataset(config: Mapping[str, Any]) -> str:
    path, name = config.get("dataset_path"), config.get("dataset_name")
    return f"the dataset {path}" + (f" ({name})" if name else "") if path else "a dataset"


def _files(config: Mapping[str, Any]) -> str:
    """The data files a task names, else its data set."""
    named = (config.get("dataset_kwargs") or {}).get("data_files")
    files = list(named.values()) if isinstance(named, Mapping) else [named] if named else []
    return "the files " + ", ".join(map(str, files)) if files else _dataset(config)


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines() or [""]
    return lines[0][:_REASON_SHOWN]
