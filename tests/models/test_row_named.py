"""A model goes by an id, a folder or a repository, wherever one is taken."""

from __future__ import annotations

import pytest
from saved_model import save_model

from harness import InterpretableModel, models
from harness.models.spec import HubRow, PathRow
from harness.vocabulary.errors import UsageError


def test_an_id_a_folder_and_a_repository(tmp_path, monkeypatch):
    assert models.row_named("dial-tiny-f32") is models.bundled()["dial-tiny-f32"]
    here = models.row_named(str(tmp_path))
    assert isinstance(here, PathRow)
    assert here.path == str(tmp_path)
    there = models.row_named("mlx-community/Qwen3-30B-A3B-4bit")
    assert isinstance(there, HubRow)
    assert there.repo == "mlx-community/Qwen3-30B-A3B-4bit"
    # A file that is missing from a folder that is there is no repository.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(UsageError, match="'models/llama' is neither a model, a folder nor a repository"):
        models.row_named("models/llama")


def test_a_near_miss_is_named():
    with pytest.raises(UsageError, match=r"did you mean 'dial-tiny-f32'\?"):
        models.row_named("dial-tiny-f3")


@pytest.mark.parametrize("nothing", [None, 3, {"id": "dial-tiny-f32"}])
def test_what_is_no_model_is_refused(nothing):
    with pytest.raises(UsageError, match="is not a model"):
        models.load(nothing)


def test_a_model_loads_by_its_id_and_by_its_folder(tmp_path):
    assert models.load("dial-tiny-f32").card.id == "dial-tiny-f32"
    folder = save_model(tmp_path / "llama")
    ids = {"clean_text": [1, 2, 3], "corrupted_text": [1, 4, 3]}
    by_path = InterpretableModel(str(folder)).activation_patching(**ids)
    by_row = InterpretableModel(models.load(PathRow(id="x", source="path", path=str(folder))).module)
    assert dict(by_path) == dict(by_row.activation_patching(**ids))
