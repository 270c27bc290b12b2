"""JUnit from a result: what CI services count and show, later and from merged shards too."""

from __future__ import annotations

from xml.etree import ElementTree

from example_results import curve, job, run
from hostile import hostile
from project import Project

from harness.results.json import write
from harness.results.reports.junit import render
from harness.vocabulary import Finding, Status


def test_every_job_is_a_case_and_the_counts_are_those_of_the_run():
    suite = ElementTree.fromstring(render(hostile()))
    assert [suite.get(word) for word in ("tests", "failures", "errors", "skipped")] == ["4", "1", "1", "1"]
    assert [case.get("classname") for case in suite.iter("testcase")] == ["failed", "passed", "skipped", "crashed"]


def test_a_failure_has_its_code_the_command_and_the_traceback():
    found = Finding("ENG001", "it raised", evidence={"traceback": "File 'a.py', line 3"})
    suite = ElementTree.fromstring(render(run(job(status=Status.FAILED, findings=(found,)))))
    (failure,) = suite.iter("failure")
    assert (failure.get("message") or "").startswith("ENG001 ")
    assert "it raised" in (failure.get("message") or "")
    assert (failure.text or "").splitlines() == [
        "harness run cases/case.case.yaml --engine native --model tiny",
        "File 'a.py', line 3",
    ]


def test_a_text_that_xml_cannot_hold_is_shown_in_words():
    suite = ElementTree.fromstring(render(run(job(status=Status.CRASHED, reason="\x00\x1b[31m"))))
    (error,) = suite.iter("error")
    assert "\x1b" not in (error.get("message") or "")


def test_the_time_is_that_of_the_job():
    suite = ElementTree.fromstring(render(run(job(curves=(curve(1.0),), timings={"load_s": 0.5, "sweep_s": 1.25}))))
    assert suite[0].get("time") == "1.750"


def test_merged_shards_and_a_stored_result_are_written_by_suffix(project: Project) -> None:
    parts = [run(job(name), shard=f"{i}/2", planned=("a[native@tiny]", "b[native@tiny]")) for i, name in
             enumerate("ab", 1)]  # fmt: skip
    for i, part in enumerate(parts):
        write(part, project.folder / f"{i}.json")
    got = project.inside("merge", "0.json", "1.json", "--json", "all.json", "-o", "all.html", "-o", "all.xml")
    assert got.code == 0, got.err
    assert "2 passed" in (project.folder / "all.html").read_text()
    assert project.inside("report", "all.json", "-o", "again.xml").code == 0
    assert (project.folder / "again.xml").read_text() == (project.folder / "all.xml").read_text()
    assert project.inside("merge", "0.json", "1.json", "-o", "1.json").code == 4
