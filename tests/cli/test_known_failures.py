"""`--known FILE` of `harness run` and of `harness conformance`: what is known passes, what is mended fails."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from project import Project

WRONG = """\
def patch(model, clean, corrupted, component, layers, metric):
    {worst}
    return {{layer: 0.0 for layer in layers}}


patch.harness = {{"units": "percent", "metrics": ["l2"], "components": ["mlp"]}}
"""
OPTIONS = ("--with-engine", "mine:patch", "--allow-code")


def wrong(project: Project, worst: str = "pass", cases: tuple[str, ...] = ("a",)) -> None:
    for name in cases:
        project.case(name, more="metrics: [l2]\n")
    project.write("mine.py", WRONG.format(worst=worst))


def known(project: Project, *entries: str) -> tuple[str, str]:
    text = "".join(f"  - {{{entry}}}\n" for entry in entries)
    return "--known", str(project.write("known.yaml", f"known:\n{text}").relative_to(project.folder))


def all_of(project: Project) -> list[str]:
    """Return an entry for each code by which the wrong engine fails."""
    got = project.run_inside(*OPTIONS)
    assert got.code == 1
    codes = {each.code for job in got.result.jobs if job.status.value == "failed" for each in job.findings}
    assert codes
    return [f'finding: {code}, engine: "mine:patch", reason: "issue 12"' for code in sorted(codes)]


# -- harness run and pytest ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_job_that_fails_only_as_is_known_passes(project: Project, door: str, workers: tuple[str, ...]) -> None:
    wrong(project)
    option = known(project, *all_of(project))
    given = option if door == "run" else ("--harness-known", option[1])
    own = OPTIONS if door == "run" else ("--harness-with-engine", "mine:patch", "--harness-allow-code")
    got = project.run(*own, *given, *workers, door=door, PYTHONPATH=str(project.folder))
    assert got.code == 0, got.out + got.err
    (job,) = [job for job in got.result.jobs if job.engine == "mine:patch"]
    assert (job.status.value, job.known) == ("passed", True)
    assert {each.known for each in job.findings if each.severity == "error"} == {"issue 12"}
    assert "known: 1" in got.out


def test_every_report_shows_it_with_the_reason(project: Project) -> None:
    wrong(project)
    files = [str(project.folder / name) for name in ("r.html", "r.md", "r.xml")]
    outputs = [word for file in files for word in ("-o", file)]
    got = project.run_inside(*OPTIONS, *known(project, *all_of(project)), *outputs)
    assert got.code == 0
    page, text, junit = (Path(file).read_text() for file in files)
    assert "† known" in page
    assert "issue 12" in page
    assert "known: 1" in text
    assert "issue 12" in text
    (skipped,) = ElementTree.fromstring(junit).iter("skipped")
    assert "issue 12" in skipped.get("message")


def test_what_else_is_wrong_fails_as_ever(project: Project) -> None:
    wrong(project)
    entries = all_of(project)
    got = project.run_inside(*OPTIONS, *known(project, *entries[1:]))
    assert got.code == (1 if entries[1:] else 0) or len(entries) == 1
    assert project.run_inside(*OPTIONS, *known(project, entries[0].replace("mine:patch", "native"))).code == 1


def test_what_is_mended_fails_and_the_line_to_delete_is_said(project: Project) -> None:
    project.case("a")
    got = project.run_inside(*known(project, "finding: REF001, case: zzz, reason: r", "finding: SHF001, reason: old"))
    assert got.code == 1
    assert "known.yaml:3:5: SHF001 passes now; delete this entry (old)" in got.out
    assert "not asked here, or not everywhere: known.yaml:2 REF001 on zzz" in got.out
    assert got.out.rstrip().splitlines()[-1].startswith("FAILED: 1 passed; a known failure is mended in ")


@pytest.mark.parametrize(
    "narrow", [("-k", "a.case"), ("--job", "a[native@good]"), ("--shard", "1/2"), ("--metric", "l2")]
)
def test_a_part_of_a_run_mends_nothing(project: Project, narrow: tuple[str, ...]) -> None:
    project.case("a")
    project.case("b")
    got = project.run_inside(*known(project, "finding: SHF001, reason: old"), *narrow)
    assert (got.code, "not asked here, or not everywhere: known.yaml:2 SHF001" in got.out) == (0, True)


def test_a_process_that_ends_is_never_known(project: Project) -> None:
    wrong(project, "import os; os._exit(9)")
    entries = [f"finding: {name}, reason: r" for name in ("ENG001", "LAW004")]
    got = project.run(*OPTIONS, *known(project, *entries), PYTHONPATH=str(project.folder))
    assert (got.code, got.statuses["a[mine:patch@good]"]) == (3, "crashed")


def test_the_kind_of_a_mistake_narrows_an_entry(project: Project) -> None:
    wrong(project, "raise ValueError('planted')")
    one = 'finding: ENG001, kind: "raised Value*", reason: r'
    assert project.run_inside(*OPTIONS, *known(project, one)).code == 0
    assert project.run_inside(*OPTIONS, *known(project, one.replace("Value", "Key"))).code == 1


def test_the_configuration_names_the_file_and_the_command_line_wins(project: Project) -> None:
    wrong(project)
    known(project, *all_of(project))
    project.write("pyproject.toml", '[tool.harness]\nknown = "known.yaml"\n')
    assert project.run_inside(*OPTIONS).code == 0
    project.write("none.yaml", "known: []\n")
    assert project.run_inside(*OPTIONS, "--known", "none.yaml").code == 1


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)], ids=["alone", "xdist"])
def test_a_run_writes_what_fails_and_passes_by_it(project: Project, workers: tuple[str, ...]) -> None:
    wrong(project, cases=("a", "b"))
    got = project.run_inside(*OPTIONS, *workers, "--write-known", "known.yaml")
    assert (got.code, "known: 2" in got.out) == (0, True), got.out + got.err
    assert "have no reason yet" in got.out
    text = Path("known.yaml").read_text()
    for case in ("a", "b"):
        assert f'case: "{case}", model: "good", engine: "mine:patch"' in text
    assert "native" not in text
    assert project.run_inside(*OPTIONS, "--known", "known.yaml").code == 0
    wrong(project, "raise ValueError('planted')")
    assert project.run_inside(*OPTIONS, "--known", "known.yaml").code == 1
    assert Path("known.yaml").read_text() == text


def test_a_run_writes_over_no_reasons_and_no_other_file(project: Project) -> None:
    wrong(project)
    known(project, "finding: KNO001, case: a, reason: mine")
    before = Path("known.yaml").read_text()
    for file, said in (
        ("known.yaml", "give it as --known too"),
        ("m.yaml", "is no earlier output of this kind"),
        ("nowhere/known.yaml", "does not exist"),
    ):
        got = project.run_inside(*OPTIONS, "--write-known", file)
        assert (got.code, said in got.err, got.result) == (4, True, None), got.err
    assert Path("known.yaml").read_text() == before
    assert Path("m.yaml").exists()
    assert project.run_inside(*OPTIONS, "--known", "known.yaml", "--write-known", "known.yaml").code == 0
    assert '"mine"' in Path("known.yaml").read_text()


def test_a_mended_entry_is_not_written_again_and_a_crash_is_never_known(project: Project) -> None:
    wrong(project, "import os; os._exit(9)")
    project.case("b")
    option = known(project, "finding: SHF001, case: b, engine: native, reason: old")
    got = project.run(*OPTIONS, *option, "--write-known", "known.yaml", PYTHONPATH=str(project.folder))
    assert (got.code, got.statuses["a[mine:patch@good]"]) == (3, "crashed"), got.out + got.err
    assert Path(project.folder / "known.yaml").read_text().endswith("known: []\n")


# -- the file --------------------------------------------------------------------------------------------------------

FAULTS = [
    ("law: residul, reason: r", "2:11: known[0].law: 'residul' is not a law; did you mean 'residual'?"),
    ("law: LAW003, reason: r", "2:11: known[0].law: 'LAW003' is not a law; it is the code of 'residual'"),
    ("law: residual, row: lama, reason: r", "2:26: known[0].row: 'lama' is not a row; did you mean"),
    ('law: residual, row: "lama*", reason: r', "2:26: known[0].row: 'lama*' is not a row;"),
    ("finding: LAW03, reason: r", "2:15: known[0].finding: 'LAW03' is not a finding that can be known; did you mean"),
    ("finding: ENG002, reason: r", "2:15: known[0].finding: 'ENG002' is not a finding that can be known"),
    ("law: residual", "known[0].reason"),
    ("reason: r", "2:5: known[0]: needs `law`"),
    ("law: residual, finding: LAW003, reason: r", "2:5: known[0]: needs `law`"),
    ("law: residual, case: a, reason: r", "2:21: known[0].case: `case` and `model` go with `finding`"),
    ("finding: LAW003, row: llama, reason: r", "2:23: known[0].row: `row` goes with `law`"),
    ("law: residual, raeson: r", "did you mean 'reason'"),
    ("law: residual, law: taps, reason: r", "is written twice"),
]


@pytest.mark.parametrize(("entry", "said"), FAULTS, ids=[entry for entry, _ in FAULTS])
def test_a_fault_of_the_file_has_its_place(project: Project, entry: str, said: str) -> None:
    """The same words from both commands, before anything is run."""
    project.case("a")
    option = known(project, entry)
    laws = project.inside("conformance", "-e", "native", "--row", "llama", *option)
    run = project.run_inside(*option)
    assert (laws.code, run.code) == (4, 4)
    assert "harness: known.yaml:2:" in laws.err
    assert said in laws.err
    assert run.err == laws.err


@pytest.mark.parametrize("text", ["", "known: 3\n", "knwon: []\n", "- law\n"])
def test_a_file_of_another_shape_is_refused(project: Project, text: str) -> None:
    project.write("known.yaml", text)
    got = project.inside("conformance", "-e", "native", "--row", "llama", "--known", "known.yaml")
    assert (got.code, "known.yaml:1:" in got.err) == (4, True)
    assert project.inside("run", "--known", "nowhere.yaml").code == 4


# -- harness conformance ---------------------------------------------------------------------------------------------

ASKED = ("conformance", "--row", "llama", "--law", "residual", "--law", "names")


@pytest.fixture
def laws(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "laws" / "conformance"))

    def run(engine: str, *options: str):
        return project.inside(*ASKED, "-e", engine, "--allow-code", *options)

    return run


def test_the_file_is_written_and_makes_the_next_run_pass(project: Project, laws) -> None:
    got = laws("defects:last_position_only", "--write-known", "known.yaml")
    assert (got.code, "known: 1, " in got.out) == (0, True)
    assert "1 of 1 known failures have no reason yet" in got.out
    files = [f"laws.{kind}" for kind in ("json", "xml", "md")]
    again = ("--known", "known.yaml", "--json", files[0], "--junit", files[1], "-o", files[2])
    got = laws("defects:last_position_only", *again)
    assert got.code == 0, got.out
    cells = {cell["law"]: cell for cell in json.loads(Path(files[0]).read_text())["cells"]}
    assert (cells["residual"]["status"], cells["names"]["status"]) == ("known", "pass")
    assert cells["residual"]["known"].startswith("TODO")
    (skipped,) = ElementTree.parse(files[1]).getroot().iter("skipped")
    assert skipped.get("message").startswith("known: TODO")
    assert "| llama | † | ✓ |" in Path(files[2]).read_text()
    got = laws("defects:sound", "--known", "known.yaml")
    assert (got.code, "not asked here" in got.out) == (0, True)  # the entries name the engine


def test_a_law_that_is_kept_again_fails_the_run(project: Project, laws) -> None:
    option = known(project, "law: residual, row: llama, reason: old", "law: taps, row: llama, reason: later")
    got = laws("defects:sound", *option, "--junit", "laws.xml")
    assert got.code == 1
    assert "known.yaml:2:5: residual on llama passes now; delete this entry (old)" in got.out
    assert "not asked here, or not everywhere: known.yaml:3 taps on llama" in got.out
    suite = ElementTree.parse("laws.xml").getroot()
    assert suite.get("failures") == "1"
    got = laws("defects:sound", *option, "--write-known", "known.yaml")
    assert got.code == 0
    assert "taps" in Path("known.yaml").read_text()
    assert "residual" not in Path("known.yaml").read_text()


def test_one_file_serves_both_commands_and_each_leaves_the_other_its_entries(project: Project, laws) -> None:
    wrong(project)
    assert laws("defects:last_position_only", "--write-known", "known.yaml").code == 0
    shared = ("--known", "known.yaml")
    got = project.run_inside(*OPTIONS, *shared, "--write-known", "known.yaml")
    assert (got.code, "not asked" in got.out) == (0, False), got.out
    text = Path("known.yaml").read_text()
    assert 'law: "residual"' in text
    assert "finding: " in text
    got = laws("defects:last_position_only", *shared, "--write-known", "known.yaml")
    assert (got.code, "known failures not asked here" in got.out) == (0, False), got.out
    assert Path("known.yaml").read_text() == text
    assert (project.run_inside(*OPTIONS, *shared).code, laws("defects:last_position_only", *shared).code) == (0, 0)


def test_an_entry_for_all_rows_is_mended_only_by_all_rows(project: Project, laws) -> None:
    got = laws("defects:sound", *known(project, "law: residual, reason: old"))
    assert (got.code, "not asked here, or not everywhere: known.yaml:2 residual" in got.out) == (0, True)


def test_reasons_are_not_written_over(project: Project, laws) -> None:
    known(project, "law: residual, row: llama, reason: mine")
    before = Path("known.yaml").read_text()
    got = laws("defects:last_position_only", "--write-known", "known.yaml")
    assert (got.code, "give it as --known too" in got.err) == (4, True)
    assert Path("known.yaml").read_text() == before
    got = laws("defects:last_position_only", "--write-known", "known.yaml", "--known", "known.yaml")
    assert got.code == 0
    assert "mine" in Path("known.yaml").read_text()


def test_a_process_that_ends_breaks_no_law_that_is_known(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.laws import LAWS
    from harness.laws.conformance.known import read_known, with_known
    from harness.laws.conformance.matrix import in_processes
    from harness.laws.conformance.report import Conformance
    from harness.laws.conformance.rows import rows_named

    project.write("mine.py", WRONG.format(worst="import os; os._exit(9)"))
    monkeypatch.setenv("PYTHONPATH", str(project.folder), prepend=":")
    (cells,) = in_processes("mine:patch", True, rows_named(["llama"]), [LAWS["answers"]])
    _, file = known(project, "law: answers, reason: r")
    report = with_known(
        Conformance("mine:patch", None, ("answers",), tuple(cells), {}, 0.0), read_known(Path(file)), []
    )
    assert report.judgement[1] == 1
