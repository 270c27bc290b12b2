"""What `harness run` writes: the JSON result, a JUnit report, and a text that says everything once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from project import Project

from harness.results.json import dumps, schema
from harness.vocabulary import RESULT_SCHEMA


@pytest.fixture
def report(project: Project) -> Project:
    project.case("c", models="wide", engines="native, legacy")
    return project


def test_the_json_is_read_back_as_it_was(report: Project) -> None:
    got = report.run_inside()
    text = (report.folder / "result.json").read_text(encoding="utf-8")
    assert got.result is not None
    assert dumps(got.result) == text
    assert json.loads(text)["schema"] == RESULT_SCHEMA
    assert "NaN" not in text
    assert "Infinity" not in text


def test_the_json_keeps_to_its_schema(report: Project) -> None:
    """Every object has the schema's fields and no others, every enumerated value is one of those listed."""
    report.run_inside()
    published = schema()
    faults = list(_faults(json.loads((report.folder / "result.json").read_text()), published, published, "$"))
    assert faults == []
    assert published["$id"] == RESULT_SCHEMA


def test_the_schema_check_sees_a_fault(report: Project) -> None:
    report.run_inside()
    data = json.loads((report.folder / "result.json").read_text())
    data["jobs"][0]["status"] = "fine"
    data["jobs"][0]["curves"][0]["baseline"]["value"] = "7"
    del data["exit_code"]
    assert len(list(_faults(data, schema(), schema(), "$"))) == 3


def _faults(data: Any, node: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    """Yield where data breaks the part of JSON Schema that pydantic writes for dataclasses."""
    if "$ref" in node:
        yield from _faults(data, root["$defs"][node["$ref"].rpartition("/")[2]], root, path)
    elif "anyOf" in node:
        yield from min((list(_faults(data, choice, root, path)) for choice in node["anyOf"]), key=len)
    elif "enum" in node and data not in node["enum"]:
        yield f"{path}: {data!r} is none of {node['enum']}"
    elif not isinstance(data, _TYPES[node.get("type", "any")]):
        yield f"{path}: {data!r} is no {node['type']}"
    elif isinstance(data, dict):
        yield from _object_faults(data, node, root, path)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _faults(value, node.get("items", {}), root, f"{path}[{i}]")


def _object_faults(data: dict[str, Any], node: dict[str, Any], root: dict[str, Any], path: str) -> Iterator[str]:
    fields, free = node.get("properties", {}), node.get("additionalProperties")
    yield from (f"{path}: lacks {name}" for name in node.get("required", ()) if name not in data)
    yield from (f"{path}: has {name}" for name in data if fields and name not in fields)
    for name, value in data.items():
        inner = fields.get(name, free)
        yield from _faults(value, inner if isinstance(inner, dict) else {}, root, f"{path}.{name}")


_TYPES = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None), "any": object,
}  # fmt: skip


def test_junit(report: Project) -> None:
    report.run_inside("--junit", "junit.xml")
    suite = ElementTree.parse(report.folder / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    assert {case.get("name") for case in suite.findall("testcase")} == {"c[native@wide]", "c[legacy@wide]"}


@pytest.mark.parametrize("option", ["--json", "--junit"])
@pytest.mark.parametrize("target", ["nowhere/x", ".", "m.yaml/x"], ids=["no-folder", "a-folder", "below-a-file"])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(
    report: Project, monkeypatch: pytest.MonkeyPatch, option: str, target: str
) -> None:
    monkeypatch.setattr(pytest, "main", lambda *_, **__: pytest.fail("the work began"))
    got = report.inside("run", "--models", "m.yaml", option, target)
    assert got.code == 4
    assert target.partition("/")[0] in got.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused_before_any_work(report: Project) -> None:
    folder = report.folder / "closed"
    folder.mkdir(mode=0o500)
    assert report.inside("run", "--models", "m.yaml", "--json", folder / "x").code == 4


def test_a_result_that_cannot_be_written_in_the_end_is_an_error(report: Project) -> None:
    (report.folder / "taken").mkdir()
    got = report.run("--harness-json=taken", door="pytest")
    assert got.code == 4
    assert "taken cannot be written" in got.out
    assert "Traceback" not in got.out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("option", ["--json x.json", "-o x.md", "-o x.html"])
def test_the_last_line_knows_that_a_file_could_not_be_written(project: Project, option: str) -> None:
    project.case("good")
    name = option.split()[1]
    (project.folder / name).symlink_to("/dev/full")
    got = project.inside("run", "--models", "m.yaml", *option.split())
    last = got.out.rstrip().splitlines()[-1]
    assert got.code == 4
    assert last.startswith("REFUSED: 1 passed; a file was refused or not written in ")
    assert last.endswith("(exit code 4)")
    assert f"{name} cannot be written" in got.out


def test_the_text_says_everything_once_and_the_verdict_last(report: Project) -> None:
    shown = report.run_inside().out.rstrip().splitlines()
    assert shown[-1].startswith("FAILED: 1 passed, 1 failed in ")
    assert shown[-1].endswith("(exit code 1)")
    assert [line for line in shown if line.startswith("FAILED")] == [
        "FAILED c[legacy@wide] cases/c.case.yaml",
        shown[-1],
    ]
    assert sum("baseline" in line and "status" in line for line in shown) == 1
    assert sum("ORC001" in line and "(l2)" in line for line in shown) == 1


def test_candidates_and_tables_may_be_anywhere(report: Project, tmp_path: Path) -> None:
    assert report.inside("run", "--models", tmp_path / "m.yaml", "--results", tmp_path / "r").code == 1


def test_the_device_is_chosen_or_refused(project: Project) -> None:
    import mlx.core as mx

    project.case("c")
    got = project.run("--device", "cpu", "-n", "1")
    assert got.code == 0
    assert got.result is not None
    assert got.result.environment.backend.startswith("cpu")
    if not mx.is_available(mx.gpu):
        refused = project.run("--device", "gpu")
        assert (refused.code, refused.result) == (4, None)
        assert "--device gpu: MLX has no gpu here" in refused.err


def test_what_a_metric_printed_before_it_raised_is_kept_with_its_place(project: Project) -> None:
    project.write("own.py", "def metric(clean, x):\n    print('seen', clean.shape)\n    raise KeyError('gone')\n")
    project.case("c", more="metrics: ['own:metric']\n")
    got = project.run("--allow-code", "-v", "-o", "r.xml", "-o", "r.md", "-o", "r.html")
    assert got.code == 1, got.err
    assert "KeyError: 'gone' (own.py:3)" in got.out
    assert "  seen (64,)" in got.out.splitlines()
    for name, said in (("r.xml", "seen (64,)"), ("r.html", "seen (64,)"), ("r.md", "own.py:3")):
        assert said in (project.folder / name).read_text(), name
    assert "seen" not in project.run("--allow-code").out
