"""Hub models without a hub: a hand-made local cache, and an address where nobody answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from harness import models
from harness.models.sources import hub, synthetic
from harness.models.sources.folder import problem
from harness.models.spec import HubRow, SyntheticRow
from harness.vocabulary.errors import ModelUnavailable, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROW = HubRow(id="remote", source="hub", repo="someone/model", revision=COMMIT)


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.fixture
def snapshot(hub_cache):
    import json

    import mlx.core as mx
    from mlx.utils import tree_flatten

    module, config = synthetic.build(
        SyntheticRow(id="small", source="synthetic", architecture="llama", vocab=96, layers=2)
    )
    place = hub_cache / "models--someone--model" / "snapshots" / COMMIT
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(place / "model.safetensors"), dict(tree_flatten(module.parameters())))
    return place


def test_a_cached_snapshot_loads_without_a_network(snapshot):
    assert models.availability(ROW) == (True, "ready")
    model = models.load(ROW)
    assert (model.card.id, model.card.source, model.card.layers) == ("remote", "hub", 2)
    assert models.fetch(ROW) == snapshot


def test_another_revision_is_another_model(snapshot):
    assert hub.cached(ROW.model_copy(update={"revision": "f" * 40})) is None


def test_a_snapshot_without_weights_does_not_count(snapshot):
    (snapshot / "model.safetensors").unlink()
    assert problem(snapshot)
    assert hub.cached(ROW) is None


def test_not_cached_and_not_allowed_says_how(hub_cache):
    assert models.availability(ROW) == (False, "not fetched")
    # No command without the row's table fetches it; a repository by itself has one.
    with pytest.raises(ModelUnavailable, match=r"someone/model at 0123.* pass --download$"):
        models.load(ROW)
    with pytest.raises(ModelUnavailable, match=r"pass --download, or run `harness models fetch someone/model`$"):
        models.load("someone/model")


def test_remote_code_is_refused_unless_the_row_trusts_it(snapshot):
    file = snapshot / "config.json"
    file.write_text(file.read_text().replace("{", '{"model_file": "code.py", ', 1))
    with pytest.raises(UsageError, match="wants to run its own Python"):
        models.load(ROW)


def test_python_files_are_fetched_only_for_a_row_that_trusts_them(monkeypatch, hub_cache):
    import huggingface_hub

    asked = []

    def download(repo, **options):
        asked.append(options)
        return str(hub_cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    hub.fetch(ROW)
    hub.fetch(ROW.model_copy(update={"trust_remote_code": True}))
    assert ["*.py" in options["allow_patterns"] for options in asked] == [False, True]
    assert {options["revision"] for options in asked} == {COMMIT}


def test_the_bytes_of_a_download_are_progress_and_no_bar_is_drawn(monkeypatch, hub_cache, capfd):
    import huggingface_hub
    from tqdm.contrib.concurrent import thread_map

    from harness.support.progress import listening

    def download(repo, tqdm_class, **options):
        bar = tqdm_class(total=0, unit="B", desc="Downloading bytes", unit_scale=True, mininterval=0)
        bar.total = 100
        thread_map(lambda _: bar.update(50), range(2), tqdm_class=tqdm_class, max_workers=1)
        return str(hub_cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    heard = []
    with listening(lambda *said: heard.append(said)):
        hub.fetch(ROW)
    assert heard[-1] == ("fetching someone/model", 100, 100)
    assert {what for what, _, _ in heard} == {"fetching someone/model"}
    assert capfd.readouterr() == ("", "")


MARKED = "import pathlib; pathlib.Path({!r}).touch(); raise RuntimeError('the model came with this')"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_row_that_trusts_a_models_code_runs_it_only_with_consent(snapshot, tmp_path, allowed):
    file, ran = snapshot / "config.json", tmp_path / "ran"
    file.write_text(file.read_text().replace("{", '{"model_file": "code.py", ', 1))
    (snapshot / "code.py").write_text(MARKED.format(str(ran)))
    wanted = "came with this" if allowed else "only with --allow-code .*; nothing was loaded"
    with pytest.raises(UsageError, match=wanted):
        models.load(ROW.model_copy(update={"trust_remote_code": True}), allow_code=allowed)
    assert ran.exists() is allowed


def test_an_unreachable_hub_is_unavailable_in_one_line_and_soon(tmp_path):
    code = (
        "from harness import models; from harness.vocabulary.errors import ModelUnavailable\n"
        "try: models.load(models.bundled()['qwen3-30b-a3b-thinking-2507-4bit'], download=True)\n"
        "except ModelUnavailable as error: print(error)"
    )
    environment = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path)}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert time.monotonic() - started < 30
    assert len(done.stdout.splitlines()) == 1, done
    assert "mlx-community/Qwen3-30B-A3B-Thinking-2507-4bit at main cannot be downloaded" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_download_that_breaks_off_is_unavailable(monkeypatch, hub_cache):
    import huggingface_hub

    def download(repo, **options):
        raise ConnectionError("broken pipe\nand more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(ModelUnavailable, match=r"cannot be downloaded: ConnectionError: broken pipe$"):
        hub.fetch(ROW)
    shutil.rmtree(hub_cache)
