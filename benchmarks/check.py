"""Seconds of ``evomerge check`` on four local models of the shape of Llama 3 8B.

    python benchmarks/check.py [--repeats N]

The models have real configurations, headers and tokenizer files; their weights are holes in
sparse files. Medians of whole processes; the processor's own seconds stand beside them, which a
busy machine stretches less. On a machine with little memory the check ends with that error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "torch_dtype": "bfloat16",
}
N_SHARDS, N_SPECIAL = 4, 256
GENOME = """
genome:
  models: [models/model_1, models/model_2, models/model_3]
  base_model: models/base
  merge_method: task_arithmetic
  layer_granularity: 4
tasks: [{name: small, limit: 100}]
task_search_path: [tasks]
optimizer: {name: cma_es, budget: 200}
"""
TASK = """
task: small
dataset_path: json
dataset_kwargs: {{data_files: {{test: {file}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}"
doc_to_choice: "{{{{options}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


def shapes() -> dict[str, list[int]]:
    """Tensor name -> shape of the 8B model."""
    layer = {
        "input_layernorm": [4096],
        "self_attn.q_proj": [4096, 4096],
        "self_attn.k_proj": [1024, 4096],
        "self_attn.v_proj": [1024, 4096],
        "self_attn.o_proj": [4096, 4096],
        "post_attention_layernorm": [4096],
        "mlp.up_proj": [14336, 4096],
        "mlp.gate_proj": [14336, 4096],
        "mlp.down_proj": [4096, 14336],
    }
    found = {"model.embed_tokens.weight": [128256, 4096]}
    for index in range(32):
        found |= {f"model.layers.{index}.{name}.weight": shape for name, shape in layer.items()}
    return found | {"model.norm.weight": [4096], "lm_head.weight": [128256, 4096]}


def write_weights(folder: Path) -> None:
    """Files with headers and few values: the file system keeps the holes for nothing.

    Tensors of several models begin with other bytes, as those of fine-tunes do.
    """
    names = list(shapes().items())
    places = {}
    for shard in range(N_SHARDS):
        file = f"model-{shard + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        header, end = {}, 0
        for name, shape in names[
            shard * len(names) // N_SHARDS : (shard + 1) * len(names) // N_SHARDS
        ]:
            begin, end = end, end + 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
            places[name] = file
        text = json.dumps(header).encode()
        with (folder / file).open("wb") as content:
            content.write(len(text).to_bytes(8, "little") + text)
            content.truncate(8 + len(text) + end)
            for entry in header.values():
                content.seek(8 + len(text) + entry["data_offsets"][0])
                content.write(folder.name.encode()[-2:])
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_tokenizer(folder: Path) -> None:
    """A BPE vocabulary of the size of Llama 3's: pieces of four letters, no two alike."""
    letters = "abcdefghijklmnopqrst"
    single = [chr(code) for code in range(33, 127)] + ["Ġ", "Ċ"]
    pairs = [a + b for a in letters for b in letters]
    longer = [a + b for a in pairs for b in pairs]
    pieces = dict.fromkeys([*single, *pairs, *longer])
    n_pieces = 128256 - N_SPECIAL
    vocabulary = {piece: index for index, piece in enumerate(list(pieces)[:n_pieces])}
    merges = [[pair[0], pair[1]] for pair in pairs]
    merges += [[piece[:2], piece[2:]] for piece in vocabulary if len(piece) == 4]
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    special += [f"<|reserved_{index}|>" for index in range(N_SPECIAL - 2)]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": n_pieces + i, "content": text, "special": True, **flags}
        for i, text in enumerate(special)
    ]
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges, "ignore_merges": True}
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    file = {
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": model,
    }
    (folder / "tokenizer.json").write_text(json.dumps(file))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": special[0],
        "eos_token": special[1],
        "chat_template": "{{ messages[0].content }}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_workplace(folder: Path) -> None:
    """Models, a task with its data, and a genome."""
    for name in ("base", "model_1", "model_2", "model_3"):
        model = folder / "models" / name
        model.mkdir(parents=True)
        (model / "config.json").write_text(json.dumps(CONFIG))
        write_weights(model)
        write_tokenizer(model)
    (folder / "tasks").mkdir()
    data = folder / "tasks" / "small.jsonl"
    row = {"text": "abcd", "options": ["efgh", "ijkl"], "answer": 0}
    data.write_text("".join(json.dumps({**row, "text": f"abcd {n}"}) + "\n" for n in range(100)))
    (folder / "tasks" / "small.yaml").write_text(TASK.format(file=data))
    (folder / "genome.yml").write_text(GENOME)


INSPECT = """
import time
started = time.perf_counter()
from evomerge.genome.model_names import ModelName
from evomerge.models.inspect import read_model
for name in ("base", "model_1", "model_2", "model_3"):
    read_model(ModelName(path="models/" + name))
print(time.perf_counter() - started)
"""


def seconds(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds on the clock and on the processor of one process with the network off."""
    root = str(Path(__file__).parents[1])
    started, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    elapsed, after = time.perf_counter() - started, os.times()
    busy = sum(after[2:4]) - sum(before[2:4])  # of ended children, in and out of the kernel
    if done.returncode and "error: RAM" not in done.stdout + done.stderr:
        sys.exit(done.stdout + done.stderr)
    return elapsed, busy


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", default=5, type=int)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_workplace(folder)
        rows = {
            "evomerge check, four 8B models": ("-m", "evomerge", "check", "genome.yml"),
            "reading the four models alone": ("-c", INSPECT),
            "importing torch alone": ("-c", "import torch"),
        }
        for label, arguments in rows.items():
            times = [seconds(folder, *arguments) for _ in range(repeats)]
            wall, busy = (statistics.median(column) for column in zip(*times, strict=True))
            print(f"{label:<32} {wall:6.2f} s  (processor {busy:.2f} s)")


if __name__ == "__main__":
    main()
