"""A stranger's text does nothing: not on a terminal, not to the CI that reads the log, not in a table or a page.

Every text field of a result file, of a case file and of a model table is filled with what would act, and every command
that shows any of it is run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from example_results import curve, grid, job, run
from project import Project, project

from harness.cli import main
from harness.results.json import dumps, read
from harness.vocabulary import Finding, Status, Tokens
from harness.vocabulary.errors import UsageError

__all__ = ["project"]

ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J\x1b[1;1H",
    "c1": "\x9b31m\x85\x90",
    "command": "\n::stop-commands::token\n",
    "indented": "\r\n \t\u00a0::error::here",
    "first": "::add-mask::x",
    "old": " ##[error]here",
    "direction": "a\u202etxt.exe\u2066b\u2069\u200f",
    "separator": "x\u2028::error::y\u2029z",
    "backspace": "PASSED\x08\x7f\x00\r",
    "verdict": "\nPASSED: nothing to see (exit code 0)\n",
    "table": "a | b | c\n| d | e |",
    "markdown": "`<img src=x>`[x](http://y) **b** ![i](z)</details>",
    "markup": "[bold]x[/bold] [/] :smile: [link=http://y]z[/link]",
}
EVERYTHING = "".join(ATTACKS.values())
ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
OURS = re.compile(r"::(error|warning|notice) file=[^,:]*,line=\d+,title=[^,:]*::")
STYLE = re.compile(r"\x1b\[[0-9;]*m")


@cache
def example_text(hostile: str = "x") -> str:
    """Return a result as plain JSON that has something in every field which a report looks at."""
    found = (Finding("FIN001", "not finite"), Finding("HED001", "near the limit"))
    tokens = Tokens((1, 2), ("a", "b"))
    bad = job(
        status=Status.FAILED,
        reason="why",
        findings=found,
        about="about",
        tags=("tag",),
        clean=tokens,
        corrupted=tokens,
        curves=(curve(10.0, "nan"), curve(10.0, 20.0, metric="mse"), grid([[1.0, 2.0], ["inf", 3.0]])),
        printed="line\nline",
        strategy="stepwise",
        fallback="because",
        engine_version="1",
    )
    others = [
        job(case=f"case-{status.value}", status=status, reason="reason", engine=engine)
        for status in Status
        for engine in ("native", "m:f")
    ]
    whole = json.loads(dumps(run(bad, *others, notes=("note",), verdict=Status.FAILED, exit_code=1)))
    return json.dumps(filled(whole, hostile))


def filled(plain: Any, text: str) -> Any:
    """Put the text into every place that takes it, one after the other, as long as the file can still be read."""
    for place in list(places(plain)):
        if place[-1] == "position":  # a number, not free text
            continue
        before = value_at(plain, place)
        put(plain, place, before + text)
        if not readable(plain):
            put(plain, place, before)
    return plain


def places(plain: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every text."""
    if isinstance(plain, str):
        yield here
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ():
        yield from places(value, (*here, key))


def value_at(plain: Any, place: Sequence[Any]) -> Any:
    for key in place:
        plain = plain[key]
    return plain


def put(plain: Any, place: Sequence[Any], value: Any) -> None:
    value_at(plain, place[:-1])[place[-1]] = value


SCRATCH = "scratch.json"


def readable(plain: Any) -> bool:
    Path(SCRATCH).write_text(json.dumps(plain))
    try:
        read(Path(SCRATCH))
    except UsageError:
        return False
    return True


def ended(capfd: Any, *words: str) -> str:
    """Run a command line as the program does, and return all that it wrote."""
    with pytest.raises(SystemExit):
        main(list(words))
    out, err = capfd.readouterr()
    return out + err


def assert_inert(shown: str, ours: bool = False) -> None:
    acting = ACTING.search(shown)
    assert acting is None, repr(shown[max(0, acting.start() - 40) : acting.end() + 40])
    is_page = shown.startswith("<!doctype html>")
    for line in shown.split("\n"):
        assert is_page or not line.startswith("PASSED: nothing"), "a stranger's text makes a line of its own"
        is_command = line.strip().startswith("::")
        assert not is_command or (ours and OURS.match(line)), repr(line)
        assert is_command or "##[" not in line, repr(line)


COMMANDS = {
    "report": "report r.json",
    "annotations": "report r.json --to annotations",
    "markdown": "report r.json --to markdown",
    "json": "report r.json --to json",
    "html": "report r.json --to html",
    "compare": "compare r.json plain.json",
    "compare the other way": "compare plain.json r.json --fail-on status,finding,state,missing,recovery=1,rank=1",
    "compare engines": "compare r.json r.json --engines native m:f",
    "compare an unknown engine": "compare r.json r.json --engines native nobody",
    "compare --markdown": "compare r.json plain.json --markdown",
    "merge": "merge shard.json -o merged.json",
    "replay": "replay r.json --all",
    "replay --json": "replay r.json --json",
    "failed": "run --failed-in r.json --models m.yaml",
}


SHOWN = {"id", "case", "case_file", "model", "engine", "reason", "about", "tags", "texts", "printed", "notes"} | {
    "fallback", "message", "component", "metric", "unit", "packages", "backend", "device",
}  # fmt: skip


@pytest.fixture
def capsys(capfd: Any) -> Any:
    """The project's commands write to the same descriptors as the program's."""
    return capfd


@pytest.fixture
def files(project: Project, request: pytest.FixtureRequest) -> Project:
    project.case("good")
    hostile = json.loads(example_text(getattr(request, "param", EVERYTHING)))
    hostile["planned"] = [each["id"] for each in hostile["jobs"]]
    project.write("r.json", json.dumps(hostile))
    project.write("plain.json", example_text())
    project.write("shard.json", json.dumps({**hostile, "shard": "1/1"}))
    return project


def test_the_example_is_hostile_in_every_field_that_a_report_shows(files: Project) -> None:
    hostile = [
        place
        for place in places(json.loads(Path("r.json").read_text()))
        if EVERYTHING in str(value_at(json.loads(Path("r.json").read_text()), place))
    ]
    keys = {each for place in hostile for each in place if isinstance(each, str)}
    assert keys >= SHOWN


@pytest.mark.parametrize("name", COMMANDS)
def test_no_text_of_a_result_acts(files: Project, capfd: Any, name: str) -> None:
    shown = ended(capfd, *COMMANDS[name].split())
    assert "owned" in shown
    assert_inert(shown, ours=name == "annotations")


@pytest.mark.parametrize("name", ["report", "compare", "replay"])
def test_none_acts_where_there_are_colours(
    files: Project, capfd: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = ended(capfd, *COMMANDS[name].split())
    assert STYLE.search(shown), "our own styles stay"
    assert_inert(STYLE.sub("", shown))


@pytest.mark.parametrize("files", ATTACKS.values(), ids=ATTACKS, indirect=True)
def test_each_attack_alone_does_nothing(files: Project, capfd: Any) -> None:
    for name in ("report", "annotations", "markdown", "compare", "failed"):
        assert_inert(ended(capfd, *COMMANDS[name].split()), ours=name == "annotations")


@pytest.mark.parametrize("words", [COMMANDS["markdown"], COMMANDS["compare --markdown"]])
def test_no_text_breaks_out_of_a_markdown_table(files: Project, capfd: Any, words: str) -> None:
    lines = ended(capfd, *words.split()).split("\n")
    width = 0
    for line in lines:
        cells = len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) if line.startswith("|") else 0
        if set(line) <= set("|-") and line:
            width = cells
        assert not cells or cells >= width, line
        assert not width or not cells or cells == width, line
        width = width if line.startswith("|") else 0
    text = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", "\n".join(lines))  # a code span shows all as it is
    assert "<img" not in text
    assert text.count("</details>") == text.count("<details>")


def test_json_on_standard_output_means_what_the_file_says(files: Project, capfd: Any) -> None:
    assert json.loads(ended(capfd, "report", "r.json", "--to", "json")) == json.loads(Path("r.json").read_text())


@pytest.mark.parametrize(
    "place", ["schema", "verdict", "jobs.0.status", "jobs.0.findings.0.code", "jobs.0.curves.0.cells.0.recovery.state"]
)
def test_a_field_that_takes_no_such_text_is_refused_without_showing_it_raw(
    files: Project, capfd: Any, place: str
) -> None:
    plain = json.loads(example_text())
    put(plain, [int(key) if key.isdecimal() else key for key in place.split(".")], EVERYTHING)
    files.write("r.json", json.dumps(plain))
    for name in COMMANDS:
        assert_inert(ended(capfd, *COMMANDS[name].split()), ours=name == "annotations")


QUOTED = json.dumps(EVERYTHING)
ENGINE = f"""\
def patch(model, clean, corrupted, component, layers, metric):
    raise ValueError({EVERYTHING!a})
patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""
CASES = {
    "about": f"about: {QUOTED}\n",
    "skip": f"skip: [{{reason: {QUOTED}}}]\n",
    "xfail": f"xfail: [{{reason: {QUOTED}}}]\n",
    "an unknown key": f"{QUOTED}: 1\n",
    "a tag": f"tags: [{QUOTED}]\n",
    "a check": f"checks: [{QUOTED}]\n",
    "an include": f"include: {QUOTED}\n",
    "no YAML": f"about: {{{QUOTED}\n",
    "an answer": f"metrics: [log_prob]\nprompts: {{clean: a, corrupted: b, answer: {QUOTED}}}\n",
}
SHOWING = (
    "list",
    "list --json",
    "show c",
    "show c --json",
    "validate",
    "validate --json",
    "run -v",
    "snapshots status",
)


def of_case(name: str) -> str:
    models = "models: [good]\nengines: [native]\nsweep: {components: [mlp]}\n"
    return models + CASES[name] + ("" if "prompts:" in CASES[name] else "prompts: {clean: a, corrupted: b}\n")


@pytest.mark.parametrize("name", CASES)
def test_no_text_of_a_case_acts(project: Project, capfd: Any, name: str) -> None:
    project.write("cases/c.case.yaml", of_case(name))
    said = [ended(capfd, *words.split(), "--models", "m.yaml") for words in SHOWING]
    for each in (*said, ended(capfd, "run", "--models", "m.yaml", "--annotations")):
        assert_inert(each, ours=each is not None and "file=" in each)
    assert name in ("no YAML", "an answer") or any("owned" in each for each in said)


@pytest.mark.parametrize("name", ["skip", "xfail", "an unknown key", "an include"])
def test_no_text_of_a_case_acts_under_pytest(project: Project, capfd: Any, name: str) -> None:
    project.write("cases/c.case.yaml", of_case(name))
    got = project.pytest_inside("-rA")
    assert_inert(got.out + got.err)
    assert "owned" in got.out + got.err


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("door", ["run", "pytest"])
def test_no_text_of_an_engine_acts(project: Project, capfd: Any, door: str, workers: str) -> None:
    project.write("strange.py", ENGINE)
    project.case("c", engines="'strange:patch'", more="metrics: [l2]\n")
    if door == "run":
        said = ended(capfd, "run", "--models", "m.yaml", "--allow-code", "-v", "-n", workers)
    else:
        got = project.pytest_inside("--harness-allow-code", "-n", workers)
        said = got.out + got.err
    assert "owned" in said, said
    assert_inert(said)


@pytest.mark.parametrize("name", ["\x1b[31mred", "::error::x", "a\nb", "a\u202eb", "a\x9bb", "a|b", "[bold]", "\udcff"])
def test_no_name_of_a_file_acts(project: Project, capfd: Any, name: str) -> None:
    project.case("good")
    folder = project.folder / name
    (project.folder / "cases").rename(folder)
    for file, text in {"bad.case.yaml": "x: 1\n", f"{name}.case.yaml": of_case("about")}.items():
        for words in ("validate", "list", "run -v", "run -v --annotations", "snapshots status"):
            (folder / file).write_text(text)
            assert_inert(ended(capfd, *words.split(), name, "--models", "m.yaml"), ours="--annotations" in words)
            (folder / file).unlink()
            assert_inert(ended(capfd, *words.split(), name, "--models", "m.yaml"), ours="--annotations" in words)
    for words in ("compare", "report", "replay", "merge", "show", "diagnose -m", "models list --models"):
        assert_inert(ended(capfd, *words.split(), name, *([name] if words == "compare" else [])))


def test_no_text_of_a_model_table_acts(project: Project, capfd: Any) -> None:
    project.case("good")
    rows = [
        {"id": "h", "source": "hub", "repo": EVERYTHING, "revision": EVERYTHING, "about": EVERYTHING},
        {"id": "p", "source": "path", "path": EVERYTHING.replace("\0", "")},
    ]
    project.write("t.yaml", json.dumps({"models": rows}))
    project.write("cases/c.case.yaml", of_case("about").replace("[good]", "[h, p]"))
    said = ended(capfd, "models", "list", "--models", "t.yaml")
    for words in ("models list --json", "validate", "show c", "run -v", "models fetch h", "models fetch p"):
        said += ended(capfd, *words.split(), "--models", "t.yaml")
    assert_inert(said)
    assert "owned" in said, said


@pytest.mark.parametrize("key", [QUOTED, "paths", "workers", "results"])
def test_no_text_of_a_configuration_acts(project: Project, capfd: Any, key: str) -> None:
    project.case("good")
    quoted = QUOTED.replace("\x7f", "\\u007f")
    project.write("pyproject.toml", f"[tool.harness]\n{key} = {quoted}\n".replace(QUOTED, quoted))
    assert_inert(ended(capfd, "run"))
