"""The version, commit and branch of somebody's code, against git itself."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from harness.engines.declaration import Declaration
from harness.engines.function import function_engine
from harness.support.checkout import Origin, origin_of


def git(folder, *words):
    who = ("-c", "user.name=n", "-c", "user.email=e@e", "-c", "init.defaultBranch=main", "-c", "commit.gpgsign=false")
    ran = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with one commit, which holds a package and a single file."""
    root = tmp_path / "repository"
    (root / "planted" / "deep").mkdir(parents=True)
    (root / "planted" / "__init__.py").write_text('__version__ = "0.1.0"\n')
    (root / "planted" / "deep" / "__init__.py").write_text(
        "def patch(model, clean, corrupted, component, layers, metric): ...\n"
    )
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


@pytest.fixture(autouse=True)
def forgotten():
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "planted"]:
        del sys.modules[name]


def planted(folder, monkeypatch, name="planted.deep"):
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


def detached(root, tmp_path):
    git(root, "checkout", "-q", "--detach")
    return root, None


def on_a_branch(root, tmp_path):
    git(root, "checkout", "-q", "-b", "feature/causal-interp")
    return root, "feature/causal-interp"


def packed(root, tmp_path):
    git(root, "pack-refs", "--all")
    return root, "main"


def worktree(root, tmp_path):
    git(root, "worktree", "add", "-q", "-b", "beside", str(tmp_path / "tree"))
    return tmp_path / "tree", "beside"


@pytest.mark.parametrize("way", [detached, on_a_branch, packed, worktree], ids=lambda way: way.__name__)
def test_a_checkout_is_named_by_its_commit_and_its_branch(way, checkout, tmp_path, monkeypatch):
    folder, branch = way(checkout, tmp_path)
    commit = git(folder, "rev-parse", "HEAD")
    assert origin_of(planted(folder, monkeypatch)) == Origin("0.1.0", commit, branch)


def test_what_is_installed_into_a_checkout_is_not_of_it(checkout, monkeypatch):
    inside = checkout / ".venv" / "lib" / "site-packages"
    inside.mkdir(parents=True)
    (checkout / "planted").rename(inside / "planted")
    assert origin_of(planted(inside, monkeypatch)) == Origin("0.1.0")


def test_pips_note_names_the_commit(tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    info = site / "planted-0.2.dist-info"
    info.mkdir(parents=True)
    (site / "planted.py").write_text("")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 0.2\n")
    (info / "direct_url.json").write_text('{"url": "x", "vcs_info": {"vcs": "git", "commit_id": "2935fbf34e08"}}')
    assert origin_of(planted(site, monkeypatch, "planted")) == Origin("0.2", "2935fbf34e08")
    (info / "direct_url.json").write_text("{")
    sys.modules.pop("planted")
    assert origin_of(planted(site, monkeypatch, "planted")) == Origin()


def test_a_broken_checkout_says_nothing(checkout, monkeypatch):
    (checkout / ".git" / "HEAD").write_bytes(b"\xff\xfe")
    module = planted(checkout, monkeypatch)
    assert origin_of(module) == Origin("0.1.0")
    (checkout / "planted" / ".git").write_text("gitdir: /nowhere\n")
    git(checkout, "init", "-q")
    assert origin_of(module) == Origin("0.1.0")


def test_the_version_of_a_function_has_the_commit_of_its_file(checkout, monkeypatch):
    """An adapter of the user's own is named as the installed library is."""
    patch = planted(checkout, monkeypatch).patch
    patch.harness = {"units": "percent", "metrics": ["l2"], "components": ["mlp"]}
    commit = git(checkout, "rev-parse", "--short=7", "HEAD")
    assert function_engine(patch).version == f"0.1.0+{commit}, main"
    patch.harness["version"] = "2"
    assert function_engine(patch).version == f"2+{commit}, main"
    patch.harness["revision"] = "abcdef0123"
    assert function_engine(patch).version == "2+abcdef0"


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"version": "0.1.0", "revision": "2935fbf34e08", "branch": "b/c"}, "0.1.0+2935fbf, b/c"),
        ({"version": "0.1.0", "revision": "2935fbf34e08"}, "0.1.0+2935fbf"),
        ({"revision": "2935fbf34e08", "branch": "main"}, "git 2935fbf, main"),
        ({"version": "0.1.0"}, "0.1.0"),
        ({}, None),
    ],
)
def test_a_version_is_written_so(facts, text):
    assert Declaration(**facts).version_text == text


def test_no_module_has_no_origin():
    assert origin_of(None).revision is None
