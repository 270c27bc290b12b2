"""Whatever a file holds that somebody names: the command ends with 4 or 1 and a place, never with an internal error."""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from project import HERE, Outcome, Project, project

from harness.models.sources import miniatures

__all__ = ["project"]

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 10**400, 10**19, 1e308, -0.5, "", "x" * 3000, "\x1b[31m\ud7ff", "nan", "1e999", [], {}, [[[]]],
    {"": {}}, "a\nb", "../../x", "%s{0}", [0, "1", None],
)  # fmt: skip


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in entries:
        yield (*path, key)
        yield from places(value, (*path, key))


def mutated_json(text: bytes, dice: random.Random) -> bytes:
    """Change, remove or repeat one entry of a JSON text."""
    data = json.loads(text)
    *path, last = dice.choice(list(places(data)))
    parent = data
    for key in path:
        parent = parent[key]
    action = dice.randrange(8)
    if action == 0:
        del parent[last]
    elif action == 1 and isinstance(parent, list):
        parent.append(parent[last])
    elif action == 2:
        parent[dice.choice(["new", "id", "schema"]) if isinstance(parent, dict) else last] = dice.choice(HOSTILE)
    else:
        parent[last] = dice.choice(HOSTILE)
    return json.dumps(data).encode("utf-8", "surrogatepass")


def mutated_bytes(content: bytes, dice: random.Random) -> bytes:
    """Cut, flip, repeat or put in a few bytes."""
    at, end = sorted(dice.randrange(len(content) + 1) for _ in range(2))
    put = dice.choice(
        [b"", b"\x00", b"\xff\xfe", b"9" * 500, b"[" * 3000, b"{" * 9, b"\x1b]0;x\x07", b"nan", b"- ", b'"', b"\n"]
    )
    return dice.choice(
        [
            content[:at],
            content[:at] + put + content[at:],
            content[:at] + content[end:],
            content[:at] + put + content[at + 1 :],
        ]
    )


def mutated_text(content: bytes, dice: random.Random) -> bytes:
    """Exchange one value after a colon or an equals sign."""
    marks = [i + 1 for i, byte in enumerate(content) if byte in b":="]
    at = dice.choice(marks)
    end = min((i for i in (content.find(mark, at) for mark in (b"\n", b",", b"}")) if i > 0), default=len(content))
    value = dice.choice(HOSTILE)
    return content[:at] + b" " + json.dumps(value).encode() + content[end:]


Mutation = Callable[[bytes, random.Random], bytes]


def assert_told(got: Outcome, why: str) -> None:
    said = got.out + got.err
    assert got.code in (0, 1, 4, 5), f"{why}: {said[-2000:]}"
    assert "Traceback" not in said, why
    assert "internal error" not in said, why
    assert got.code == 0 or said.strip(), why


RESULTS = (
    "compare base.json new.json", "compare new.json base.json --markdown", "report new.json -o out.md",
    "report new.json -o out.html", "report new.json --annotations", "merge new.json -o out.json", "replay new.json",
    "run --failed-in new.json --models m.yaml",
)  # fmt: skip


@pytest.fixture
def stored(project: Project) -> Project:
    project.case("good", models="good, nan", more="metrics: [l2, mse, logit_diff]\nprecision: true\n")
    assert project.run_inside("--snapshot-update").code == 1
    shutil.move(project.folder / "result.json", project.folder / "base.json")
    return project


def tried(
    project: Project, file: str, mutations: tuple[Mutation, ...], commands: tuple[str, ...], seeds: range
) -> None:
    whole = (project.folder / file).read_bytes()
    target = "new.json" if file == "base.json" else file
    for seed in seeds:
        dice = random.Random(seed)
        content = dice.choice(mutations)(whole, dice)
        (project.folder / target).write_bytes(content)
        for old in project.folder.glob("out.*"):
            old.unlink()
        command = dice.choice(commands)
        assert_told(project.inside(*command.split()), f"{file}, seed {seed}: {command}")
    (project.folder / target).write_bytes(whole)


READ = ("list --models m.yaml", "validate --models m.yaml", "run --models m.yaml")
FILES: dict[str, tuple[str, tuple[Mutation, ...], tuple[str, ...]]] = {
    "results": ("base.json", (mutated_json, mutated_json, mutated_bytes), RESULTS),
    "snapshots": (
        f"snapshots/good/native@good.{HERE}.json", (mutated_json, mutated_bytes),
        ("snapshots status --models m.yaml", "run --models m.yaml", "snapshots prune --yes --models m.yaml",
         "snapshots review --models m.yaml"),
    ),
    "pyproject": (
        "pyproject.toml", (mutated_text, mutated_bytes),
        ("list --models m.yaml", "snapshots status --models m.yaml", "models list", "init"),
    ),
    "models": ("m.yaml", (mutated_text, mutated_text, mutated_bytes), ("models list --models m.yaml", *READ)),
    "cases": ("cases/good.case.yaml", (mutated_text, mutated_bytes), ("show good --models m.yaml", *READ)),
}  # fmt: skip
PYPROJECT = """\
[tool.harness]
paths = ["cases"]
models = []
tags = []
workers = 0
strict = true
results = "results"
"""


@pytest.mark.parametrize("kind", FILES)
def test_a_mutated_file_is_told_with_its_place(stored: Project, kind: str) -> None:
    stored.write("pyproject.toml", PYPROJECT)
    tried(stored, *FILES[kind], range(60 if kind == "results" else 25))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_many_mutated_files_are_told_with_their_places(stored: Project, kind: str) -> None:
    stored.write("pyproject.toml", PYPROJECT)
    tried(stored, *FILES[kind], range(1000, 1600))


def npy(dice: random.Random) -> bytes:
    content = io.BytesIO()
    kind = dice.choice(["<f4", ">f4", "<f2", ">f8", "<c8", "<i4", "|b1", "<U2"])
    np.save(content, np.arange(64).reshape(dice.choice([(64,), (2, 32), (64, 1), (1, 1, 64)])).astype(kind))
    return content.getvalue()


def arrays_tried(project: Project, seeds: range) -> None:
    np.save(project.folder / "other.npy", np.linspace(0, 1, 64, dtype=np.float32))
    for seed in seeds:
        dice = random.Random(seed)
        content = npy(dice)
        header = content[10:128].replace(b"64", dice.choice([b"64", b"99999999999999", b"-1", b"None", b"0", b"True"]))
        content = content[:10] + header[:118].ljust(118) + content[128:]
        suffix = dice.choice([".npy", ".npy", ".npz", ".safetensors"])
        (project.folder / f"mine{suffix}").write_bytes(dice.choice([content, mutated_bytes(content, dice)]))
        got = project.inside("diagnose", "--logits", f"mine{suffix}", "other.npy", "--metric", "l2")
        assert_told(got, f"seed {seed}")


def test_mutated_arrays_are_told(project: Project) -> None:
    arrays_tried(project, range(40))


@pytest.mark.slow
def test_many_mutated_arrays_are_told(project: Project) -> None:
    arrays_tried(project, range(1000, 2000))


def test_big_endian_numbers_are_the_numbers(project: Project) -> None:
    said = set()
    for order in "<>":
        for name, scale in (("clean", 1.0), ("corrupted", 3.0)):
            np.save(project.folder / f"{name}.npy", (np.arange(1, 65) * scale).astype(f"{order}f4"))
        got = project.inside("diagnose", "--logits", "clean.npy", "corrupted.npy", "--metric", "l2")
        said.add((got.code, got.out))
    assert len(said) == 1


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    loaded = miniatures.load("llama")
    (folder / "config.json").write_text(json.dumps(miniatures.small_config("llama")), encoding="utf-8")
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(loaded.module.parameters())))
    return folder


def header_mutated(content: bytes, dice: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little")
    changed = mutated_json(content[8 : 8 + size], dice)
    return len(changed).to_bytes(8, "little") + changed + content[8 + size :]


PARTS: dict[str, tuple[Mutation, ...]] = {
    "config.json": (mutated_json, mutated_json, mutated_json, mutated_bytes),
    "model.safetensors": (header_mutated, header_mutated, mutated_bytes),
    "tokenizer.json": (mutated_bytes,),
    "tokenizer_config.json": (mutated_bytes,),
}
ASKED = ("patch --ids --clean 1,2,3 --corrupted 1,4,3 -m", "diagnose --clean-ids 1,2,3 --corrupted-ids 1,4,3 --model")


def folders_tried(project: Project, seeds: range) -> None:
    base = model_folder(project.folder / "base")
    for seed in seeds:
        dice = random.Random(seed)
        folder = project.folder / f"hostile{seed}"
        shutil.copytree(base, folder)
        part = dice.choice([*PARTS])
        content = (folder / part).read_bytes() if (folder / part).exists() else b'{"tokenizer_class": "x"}'
        (folder / part).write_bytes(dice.choice(PARTS[part])(content, dice))
        assert_told(project.inside(*dice.choice(ASKED).split(), str(folder)), f"{part}, seed {seed}")


def test_mutated_model_folders_are_told(project: Project) -> None:
    folders_tried(project, range(15))


@pytest.mark.slow
def test_many_mutated_model_folders_are_told(project: Project) -> None:
    folders_tried(project, range(1000, 1300))
