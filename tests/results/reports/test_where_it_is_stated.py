"""A failure leads to the line that states it, a moved snapshot shows by how much, an expected error looks like one."""

from __future__ import annotations

import io
from xml.etree import ElementTree

import pytest
from example_results import job, run
from project import Project

from harness.results.reports import annotations, html, markdown
from harness.results.reports.junit import render as junit
from harness.results.reports.marks import EXPECTED
from harness.results.reports.terminal import console, print_run
from harness.vocabulary import Finding, RunResult, Status

CASE = """\
about: what is stated, and what is not so
models: [good]
engines: [native]
prompts: {clean: "a", corrupted: "b"}
sweep: {components: [mlp]}
checks: [known-answer, finiteness]
"""
EXPECTED_ENTRIES = {
    "baselines": ("KNO001", "    - {metric: l2, value: 1, within: 0.5}"),
    "recoveries": ("KNO001", "    - {component: mlp, layer: 0, metric: l2, value: 3, within: 1}"),
    "baseline_range": ("EXP003", "    - {metric: l2, at_least: 100, at_most: 101}"),
    "top_layers": ("EXP004", "    - {layers: [1], metric: l2}"),
    "minimum_recovery": ("EXP005", "    - {at_least: 99, metric: l2}"),
    "rank_order": ("EXP006", "    - {layers: [1, 0], metric: l2}"),
    "findings": ("EXP001", "    - FIN004"),
}
HOLDS = {
    "baselines": "    - {metric: l2, value: 7.4, within: 1}",
    "recoveries": "    - {component: mlp, layer: 0, metric: l2, value: 50, within: 1}",
    "baseline_range": "    - {metric: l2, at_least: 1, at_most: 100}",
    "top_layers": "    - {layers: [0], metric: l2}",
    "minimum_recovery": "    - {at_least: 1, metric: l2}",
    "rank_order": "    - {layers: [0, 1], metric: l2}",
}


def shown(result: RunResult) -> str:
    file = io.StringIO()
    print_run(result, console(file, 100))
    return file.getvalue()


@pytest.mark.parametrize("name", EXPECTED_ENTRIES)
def test_every_report_points_at_the_entry_that_is_not_met(project: Project, name: str) -> None:
    code, entry = EXPECTED_ENTRIES[name]
    text = CASE + f"expect:\n  {name}:\n" + (f"{HOLDS[name]}\n" if name in HOLDS else "") + f"{entry}\n"
    line = len(text.splitlines())
    project.write("cases/c.case.yaml", text)
    got = project.run_inside("--annotations", "-o", "r.xml", "-o", "r.md", "-o", "r.html")
    assert (got.code, got.codes) == (1, {code}), got.out
    place = f"cases/c.case.yaml:{line}"
    assert f"::error file=cases/c.case.yaml,line={line},title={code}" in got.out
    assert f"FAILED c[native@good] {place}\n" in got.out
    (test,) = ElementTree.parse(project.folder / "r.xml").getroot().iter("testcase")
    assert (test.get("file"), test.get("line")) == ("cases/c.case.yaml", str(line))
    assert all(place in (project.folder / file).read_text() for file in ("r.md", "r.html"))


def test_a_failure_that_was_to_come_points_at_what_expects_it(project: Project) -> None:
    project.write("cases/c.case.yaml", CASE + "xfail: it is broken\n")
    got = project.run_inside("--annotations")
    assert got.codes == {"XFL001"}
    assert "::error file=cases/c.case.yaml,line=7,title=XFL001" in got.out


def test_a_moved_snapshot_is_a_table_of_the_ten_largest_moves(project: Project) -> None:
    project.write(
        "m.yaml", "models: [{id: good, source: groundtruth, kind: dial, vocab: 64, weights: %s}]" % ([0.5] * 14)
    )
    project.case("c")
    assert project.run_inside("--snapshot-update").code == 0
    file = next((project.folder / "snapshots").rglob("*.json"))
    text = file.read_text()
    for layer in range(14):  # layer 13 moved furthest, layer 0 least
        text = text.replace(
            f'"layer": {layer}, "position": "all", "value": 50.0',
            f'"layer": {layer}, "position": "all", "value": {50.0 - 1 - layer}', 1,
        )  # fmt: skip
    file.write_text(text.replace('"mlx": "', '"mlx": "0.1.'))
    got = project.run_inside("-o", "r.xml", "-o", "r.md", "-o", "r.html")
    (finding,) = [each for job in got.result.jobs for each in job.findings if each.code == "SNP001"]
    assert [row[0] for row in finding.evidence["moves"]] == [f"mlp l2 layer {layer}" for layer in range(13, 3, -1)]
    assert finding.evidence["moves"][0] == ["mlp l2 layer 13", "36", "50", "+14 points"]
    assert finding.message.startswith("snapshots/c/native@good.")
    assert "; and 12 more; stored with mlx 0.1." in finding.message
    assert "backend" not in finding.message
    table = [line.split() for line in got.out.splitlines()]
    assert ["mlp", "l2", "layer", "13", "36", "50", "+14", "points"] in table
    assert "mlp l2 layer 12: 37 -&gt; 50 (+13 points)" in (project.folder / "r.xml").read_text()
    assert "| mlp l2 layer 12 | 37 | 50 | +13 points |" in (project.folder / "r.md").read_text()
    assert '<th scope="row">mlp l2 layer 12</th><td class="number">37</td>' in (project.folder / "r.html").read_text()


def test_a_job_that_passes_in_spite_of_inf_does_not_look_sound() -> None:
    sound, spite = job("sound"), job("spite", findings=(Finding("FIN004", "reported inf", expected=True),))
    warned = job("warned", findings=(Finding("SNP002", "none", expected=True),))
    assert [each.in_spite for each in (sound, spite, warned)] == [False, True, False]
    assert not job("bad", status=Status.FAILED, findings=spite.findings).in_spite
    both = run(sound, spite, warned)
    lines = shown(both).splitlines()
    status = {line.split()[0]: line.split()[3:] for line in lines if line.split()[2:3] == ["native"]}
    assert status == {"sound": ["passed"], "spite": ["as", "expected:", "FIN004"],
                      "warned": ["passed,", "expected", "SNP002"]}  # fmt: skip
    signs = [line.split(" | ")[0] for line in markdown.render(both).splitlines() if "| tiny |" in line]
    assert signs == ["| ✓", f"| {EXPECTED}", "| ✓"]
    page = html.render(both)
    assert page.count(f"{EXPECTED} as expected") == 2
    assert page.count("✓ passed") == 4
    assert [*annotations.render(both).splitlines()] == []
    assert ElementTree.fromstring(junit(both)).get("failures") == "0"


def test_a_table_on_a_narrow_screen_keeps_its_ids() -> None:
    name = "a-case-with-a-name-of-thirty-two"
    for width in (40, 60, 80, 200):
        file = io.StringIO()
        print_run(run(job(name), job("b")), console(file, width))
        assert name in file.getvalue()
        assert max(map(len, file.getvalue().splitlines())) <= width
