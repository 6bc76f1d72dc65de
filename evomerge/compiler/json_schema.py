"""The JSON schema of the genome for editors: what the loader takes, short forms included."""

from __future__ import annotations

from typing import Any

from evomerge.evaluators import EVALUATORS
from evomerge.executors import EXECUTORS
from evomerge.genome.merge_block import SPACE_KEYS
from evomerge.genome.methods import METHODS
from evomerge.genome.schema import Genome
from evomerge.genome.stage_files import KEY as STAGES
from evomerge.genome.stage_files import OF_ALL
from evomerge.genome.task_blocks import NAMED
from evomerge.inference import ENGINES
from evomerge.merge_spaces import MERGE_SPACES
from evomerge.optimizers import OPTIMIZERS

_SCALAR = {"type": ["boolean", "number", "string"]}
_TEXT = {"type": "string", "minLength": 1}
_KINDS = ("value", "range", "integer", "choice")


def genome_schema() -> dict[str, Any]:
    """JSON schema (2020-12) of a genome file."""
    schema = Genome.model_json_schema()
    definitions = schema["$defs"]
    definitions |= _task(definitions["Task"])  # some blocks of which have models in them
    definitions["Setting"]["oneOf"] = [_given(kind) for kind in _KINDS]
    definitions["ParameterSettings"] = _settings(definitions["ParameterSettings"])
    definitions["ModelName"] = _model_name(definitions["ModelName"])
    definitions["Source"] = {"anyOf": [_ref("ModelName"), definitions["Source"]]}
    definitions["EvaluationBlock"]["properties"]["backend"]["enum"] = sorted(ENGINES)
    links = sorted(set(OPTIMIZERS) - {"auto"})  # which is a chain itself
    definitions["OptimizerBlock"]["properties"]["name"]["enum"] = sorted(OPTIMIZERS)
    definitions["OptimizerLink"]["properties"]["name"]["enum"] = links
    definitions["OptimizerLink"] = {"anyOf": [{"enum": links}, definitions["OptimizerLink"]]}
    _execution(definitions["Execution"])
    _genome_block(definitions)
    schema["properties"]["optimizer"] = {
        "description": schema["properties"]["optimizer"]["description"],
        "anyOf": [{"enum": sorted(OPTIMIZERS)}, _ref("OptimizerBlock")],
    }
    _stages(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _stages(schema: dict[str, Any]) -> None:
    """A list of searches in the place of one, each with the keys of the top level."""
    top = schema["properties"]
    name = {**_TEXT, "description": "What later stages call it: `{stage: NAME}`."}
    own = {"name": name, **{key: top[key] for key in top if key not in OF_ALL}}
    schema["$defs"]["Stage"] = {
        "type": "object",
        "properties": own,
        "required": ["name"],
        "additionalProperties": False,
    }
    top[STAGES] = {
        "description": "Searches that follow one another; the top level says what one does not.",
        "type": "array",
        "items": _ref("Stage"),
        "minItems": 1,
    }
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": [STAGES]}]


def _execution(block: dict[str, Any]) -> None:
    """Executors by name, and the settings of each."""
    block["properties"]["executor"]["enum"] = ["auto", *sorted(EXECUTORS)]
    for name in EXECUTORS:
        block["properties"] |= EXECUTORS[name].Settings.model_json_schema().get("properties", {})
    block["additionalProperties"] = False


def _genome_block(definitions: dict[str, Any]) -> None:
    """Merge methods and spaces by name; keys of the block that may stand in its space as well."""
    block, space = definitions["MergeDefinition"], definitions["SpaceBlock"]
    own, names = block["properties"], sorted(MERGE_SPACES)
    del own["merge_method"]["default"]
    known = {"properties": {"merge_method": {"enum": sorted(METHODS)}}}
    block["if"] = {"not": {"required": ["merge_method_packages"]}}  # which only Python reads
    block["then"] = {"properties": {**known["properties"], "space": known}}
    space["properties"]["name"]["enum"] = names
    space["properties"] |= {key: own[key] for key in sorted(SPACE_KEYS)}
    for name in names:
        schema = MERGE_SPACES[name].Settings.model_json_schema()
        space["properties"] |= schema["properties"]
        for own_block, block_schema in schema.get("$defs", {}).items():
            definitions.setdefault(own_block, block_schema)  # those of a genome have short forms
    own["space"] = {
        "description": own["space"]["description"],
        "anyOf": [{"enum": names}, _ref("SpaceBlock")],
    }
    block["anyOf"] = [{"required": ["merge_method"]}, {"required": ["space"]}]


def _task(common: dict[str, Any]) -> dict[str, Any]:
    """A name, or a mapping with the key of one kind; each kind with the keys that it reads."""
    forms: list[dict[str, Any]] = []
    settings: dict[str, Any] = {}
    for kind in EVALUATORS:
        if kind == NAMED:  # has all keys, and no settings of its own
            forms.append({**common, "additionalProperties": False})
            continue
        evaluator = EVALUATORS[kind]
        own = evaluator.Settings.model_json_schema()
        settings |= own.pop("$defs", {})
        own["properties"][NAMED] = {**_TEXT, "description": "What the task goes by."}
        keys = (evaluator.reads | {"weight"}) & set(common["properties"])
        first = next(iter(own["properties"].values()))
        short = [_TEXT if first.get("type") != "array" else {**first, "title": kind}]
        properties = {kind: {"anyOf": [*short, own]}}
        properties |= {key: common["properties"][key] for key in sorted(keys)}
        forms.append(
            {
                "type": "object",
                "title": kind,
                "description": EVALUATORS.summary(kind),
                "properties": properties,
                "required": [kind],
                "additionalProperties": False,
            }
        )
    return {**settings, "Task": {"anyOf": [_TEXT, *forms]}}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _given(kind: str) -> dict[str, Any]:
    """``kind`` stands there, and is not null."""
    return {"required": [kind], "properties": {kind: {"not": {"type": "null"}}}}


def _settings(long_form: dict[str, Any]) -> dict[str, Any]:
    """A value, a list over depth, one setting, or a list of settings."""
    return {
        "description": long_form["description"],
        "anyOf": [
            _SCALAR,
            {"type": "array", "items": _SCALAR, "minItems": 1},
            _ref("Setting"),
            {"type": "array", "items": _ref("Setting"), "minItems": 1},
        ],
    }


def _model_name(long_form: dict[str, Any]) -> dict[str, Any]:
    """``path[@revision][+lora]``, mergekit's mapping, or the parts by name."""
    path = {
        "type": "object",
        "properties": {"path": _TEXT, "revision": {"type": ["string", "null"]}},
        "required": ["path"],
        "additionalProperties": False,
    }
    part = {"anyOf": [_TEXT, path]}
    mapping = {
        "type": "object",
        "properties": {"model": part, "lora": part},
        "required": ["model"],
        "additionalProperties": False,
    }
    stage = {
        "type": "object",
        "properties": {"stage": _TEXT},
        "required": ["stage"],
        "additionalProperties": False,
    }
    del long_form["properties"]["is_stage"]
    return {"description": long_form["description"], "anyOf": [_TEXT, mapping, stage, long_form]}
