"""As somebody who installs the wheel, read-only, beside a repository of their own: init, run, a model that breaks."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import HERE, environment
from wheelhouse import environment_beside, wheel

pytestmark = pytest.mark.slow

CASE = """\
models: [mine]
prompts: {clean: [3, 7, 11, 5], corrupted: [3, 9, 11, 5]}
sweep: {components: [mlp_out]}
"""


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A virtual environment with the built wheel, whose files nobody may write; its dependencies are this one's."""
    folder = tmp_path_factory.mktemp("installed")
    built, venv = wheel(folder), folder / "venv"
    python = environment_beside(venv)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(built)], check=True)
    closed = [path for path in [venv, *venv.rglob("*")] if not path.is_symlink()]
    for path in closed:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    yield venv
    for path in closed:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


class User:
    """Somebody with a shell, an installed harness and a folder."""

    def __init__(self, venv: Path, folder: Path):
        self.venv, self.folder = venv, folder
        # Root may write anywhere unless it lays that power down.
        self.humble = (
            ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]
            if os.geteuid() == 0
            else []
        )
        if self.humble and not shutil.which("setpriv"):
            pytest.skip("root needs setpriv to meet a file that it may not write")

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*self.humble, str(self.venv / "bin" / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True)
        assert "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
        return done

    def tree(self) -> dict[str, bytes]:
        """Every file but those of the results folder, which version control leaves out."""
        files = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return {str(file): (self.folder / file).read_bytes() for file in files if file.parts[0] != "results"}


@pytest.fixture
def user(installation: Path, tmp_path: Path) -> User:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "theirs"\nversion = "1"\n')
    return User(installation, tmp_path)


def test_the_installation_is_the_wheel_and_cannot_be_written(user: User) -> None:
    where = user.types("python", "-c", "import harness; print(harness.__file__)").stdout
    assert where.startswith(str(user.venv))
    code = "import harness, pathlib; pathlib.Path(harness.__file__).with_name('written').write_text('x')"
    refused = subprocess.run(
        [*user.humble, str(user.venv / "bin" / "python"), "-c", code], cwd=user.folder, capture_output=True, text=True
    )  # fmt: skip
    assert "PermissionError" in refused.stderr


def test_the_first_five_minutes(user: User) -> None:
    assert user.types("harness", "init").returncode == 0
    first = user.types("harness", "run")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "store one with --snapshot-update" in first.stdout
    assert user.types("harness", "run", "--snapshot-update").returncode == 0
    assert user.types("harness", "run", "--strict").returncode == 0
    assert set(user.tree()) == {
        "pyproject.toml", "cases/first.case.yaml", ".github/workflows/harness.yml",
        f"snapshots/first/native@llama-2k-f32.{HERE}.json",
    }  # fmt: skip
    assert user.types("harness", "explain", "SNP002").stdout.startswith("# SNP002: ")
    assert user.types("harness", "show", "first").returncode == 0
    assert user.types("harness", "doctor").returncode == 0


def test_the_bundled_cases_run_where_there_are_no_others(user: User) -> None:
    done = user.types("harness", "run", "--model", "circuit-llama-2k-f32", "--strict")
    assert done.returncode == 0, done.stdout + done.stderr
    refused = user.types("harness", "run", "--model", "circuit-llama-2k-f32", "--snapshot-update")
    assert (refused.returncode, "belong to the installed package" in refused.stderr) == (4, True)


@pytest.fixture
def with_model(user: User) -> User:
    """Their own model, an mlx-lm folder, with a case and its snapshot."""
    _save_model(user.folder / "weights")
    (user.folder / "cases").mkdir()
    (user.folder / "cases" / "mine.case.yaml").write_text(CASE)
    (user.folder / "cases" / "models.yaml").write_text("models:\n  - {id: mine, source: path, path: ../weights}\n")
    with (user.folder / "pyproject.toml").open("a") as file:
        file.write('[tool.harness]\nmodels = ["cases/models.yaml"]\nstrict = true\n')
    assert user.types("harness", "run", "--no-strict").returncode == 0
    assert user.types("harness", "run", "--snapshot-update").returncode == 0
    assert user.types("harness", "run").returncode == 0
    return user


def _save_model(folder: Path) -> None:
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    from harness.models.sources.weights import fill

    config = {
        "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "intermediate_size": 128,
        "num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-5, "vocab_size": 512,
        "tie_word_embeddings": False,
    }  # fmt: skip
    model = llama.Model(llama.ModelArgs.from_dict(config))
    fill(model, seed=0, logit_scale=4.0)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))


def _change(folder: Path, name: str, value: float) -> None:
    import mlx.core as mx

    file = str(folder / "model.safetensors")
    weights = dict(mx.load(file))
    weights[name][0, 0] = value
    mx.eval(weights)
    mx.save_safetensors(file, weights)


def test_a_changed_weight_turns_the_run_red_and_says_where(with_model: User) -> None:
    before = with_model.tree()[f"snapshots/mine/native@mine.{HERE}.json"]
    _change(with_model.folder / "weights", "model.layers.2.mlp.down_proj.weight", 40.0)
    done = with_model.types("harness", "run")
    assert done.returncode == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "FAILED mine[native@mine] cases/mine.case.yaml"
    assert "SNP001 a value differs from its snapshot" in lines[1]
    assert "mlp_out l2 " in " ".join(lines)
    assert "harness run cases/mine.case.yaml --engine native --model mine -v" in lines
    assert "harness explain SNP001" in lines
    assert with_model.tree()[f"snapshots/mine/native@mine.{HERE}.json"] == before


def test_a_nan_in_the_weights_is_told_from_a_fault_of_the_metric(with_model: User) -> None:
    _change(with_model.folder / "weights", "model.layers.2.mlp.down_proj.weight", float("nan"))
    done = with_model.types("harness", "run", "--json", "result.json")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].strip().startswith("FIN001 clean logits are not finite: 512 nan of 512")
    # The two commands that it says to type do what it says.
    again = next(line.split() for line in done.stdout.splitlines() if line.startswith("  harness run"))
    assert with_model.types(*again).returncode == 1
    explained = next(line.split() for line in done.stdout.splitlines() if line.startswith("  harness explain"))
    assert "`!!!!" in with_model.types(*explained).stdout
