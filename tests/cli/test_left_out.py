"""What a run leaves out is refused where it was asked for by name, and said in the verdict elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import HERE, Project

TINY = "checks: [finiteness]\n"
BUNDLED = "harness: there is no folder ./cases here: these are the bundled cases (`bundled`)"
ONE = ("-k", "dial-tiny and not noising")


@pytest.fixture
def bare(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without cases, and no project around it."""
    monkeypatch.delenv("CI", raising=False)
    (project.folder / "m.yaml").unlink()
    return project.folder


@pytest.mark.parametrize("command", [("run", *ONE), ("list",), ("validate",)], ids=lambda words: words[0])
def test_without_cases_the_first_line_says_that_the_bundled_ones_are_meant(
    project: Project, bare: Path, command: tuple[str, ...]
) -> None:
    got = project.inside(*command)
    assert (got.code, got.err.splitlines()[0]) == (0, BUNDLED)


@pytest.mark.parametrize("around", ["CI", "repository", "configuration"])
@pytest.mark.parametrize("command", [("run", *ONE), ("list",), ("validate",), ("snapshots", "status")], ids="-".join)
def test_where_somebodys_own_cases_must_be_meant_nothing_runs(
    project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch, around: str, command: tuple[str, ...]
) -> None:
    below = bare / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    if around == "CI":
        monkeypatch.setenv("CI", "true")
    elif around == "repository":
        (bare / ".git").mkdir()
    else:
        project.write("pyproject.toml", "[tool.harness]\nstrict = true\n")
    got = project.inside(*command)
    assert got.code == 5
    assert "there is no folder ./cases here" in got.err
    assert "`bundled`" in got.err
    assert not (below / "results").exists()


def test_the_bundled_cases_are_asked_for_by_name_from_anywhere(project: Project, bare: Path) -> None:
    (bare / ".git").mkdir()
    project.write("cases/mine.case.yaml", "models: [nobody]\n")
    files = len([*(Path(__file__).parents[2] / "cases").glob("*.case.yaml")])
    # circuit-both-ways is two.
    assert f"in {files + 1} cases" in project.inside("list", "bundled").out
    assert "in 1 case" in project.inside("list", "bundled:dial").out
    assert project.inside("validate", "bundled:dial").code == 0
    assert project.inside("run", "bundled", *ONE).code == 0
    assert project.inside("run", "bundled:dial", *ONE).code == 0
    assert project.inside("show", "bundled:dial", "--model", "dial-tiny-f32").out.startswith("dial ")


def test_a_configuration_may_name_them(project: Project, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("pyproject.toml", '[tool.harness]\npaths = ["bundled:dial"]\n')
    (bare / "below").mkdir()
    for folder in (bare, bare / "below"):
        monkeypatch.chdir(folder)
        assert "in 1 case" in project.inside("list").out


def test_what_is_no_bundled_case_is_named(project: Project, bare: Path) -> None:
    got = project.inside("run", "bundled:diel")
    assert (got.code, "'diel' is not a bundled case; did you mean 'dial'?" in got.err) == (4, True)
    project.write("bundled/x.case.yaml", "")
    got = project.inside("run", "bundled")
    assert (got.code, "is here as well" in got.err) == (4, True)


def test_where_cases_is_no_folder_it_is_said(project: Project, bare: Path) -> None:
    project.write("cases", "a file")
    assert "cases: is not a case file" in project.inside("run").err


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize("name", ["b.case.yml", "b.CASE.YAML"])
def test_a_file_almost_named_as_a_case_is_refused_in_both_doors(project: Project, name: str, door: str) -> None:
    file = project.case("a", more=TINY)
    (project.folder / "cases" / name).write_text(file.read_text())
    got = project.through(door)
    assert got.code == 4
    assert "rename it, or it is never run" in got.out + got.err


def filtered(project: Project, configured: bool) -> None:
    project.case("slow", more=TINY)
    project.case("fast", more=f"{TINY}tags: [quick]\n")
    tags = 'tags = ["quick"]\n' if configured else ""
    project.write("pyproject.toml", f'[tool.harness]\nmodels = ["m.yaml"]\n{tags}')


def test_a_named_file_that_the_configuration_leaves_out_is_refused(project: Project) -> None:
    filtered(project, configured=True)
    got = project.inside("run", "cases/slow.case.yaml", "cases/fast.case.yaml")
    assert got.code == 4
    assert "cases/slow.case.yaml: no job of it is left by the filters of [tool.harness]" in got.err
    assert project.inside("run", "cases").code == 0


def test_a_named_file_that_a_typed_filter_leaves_out_is_in_the_verdict(project: Project) -> None:
    filtered(project, configured=False)
    got = project.run_inside("cases/slow.case.yaml", "cases/fast.case.yaml", "-t", "quick")
    assert got.code == 0
    assert got.result.notes == ("not run: no job of cases/slow.case.yaml is selected",)
    assert got.result.notes[0] in got.out
    assert project.run_inside("cases", "-t", "quick").result.notes == ()


def test_a_failure_that_was_renamed_is_said_and_remembered(project: Project) -> None:
    for name in "ab":
        project.case(name, models="wide", engines="legacy", more="metrics: [l2]\n")
    project.run_inside()
    (project.folder / "cases/a.case.yaml").rename(project.folder / "cases/z.case.yaml")
    for _ in range(2):
        again = project.run_inside("--failed")
        assert (again.code, set(again.statuses)) == (1, {"b[legacy@wide]"})
        assert again.result.notes == ("failed in results/last.json and not selected now: a[legacy@wide]",)
    project.case("b", more=TINY)
    (project.folder / "cases/b.case.yaml").rename(project.folder / "cases/c.case.yaml")
    lost = project.run_inside("--failed")
    assert lost.code == 5
    assert "not selected now: b[legacy@wide], a[legacy@wide]" in lost.err
    everything = project.run_inside()
    assert set(everything.statuses) == {"z[legacy@wide]", "c[native@good]"}
    assert set(project.run_inside("--failed").statuses) == {"z[legacy@wide]"}


def test_failed_with_another_filter_forgets_nothing(project: Project) -> None:
    for name in "ab":
        project.case(name, models="wide", engines="legacy", more="metrics: [l2]\n")
    project.run_inside()
    assert set(project.run_inside("--failed", "-k", "a.case.yaml").statuses) == {"a[legacy@wide]"}
    assert set(project.run_inside("--failed").statuses) == {"a[legacy@wide]", "b[legacy@wide]"}


REFUSED = {
    "metric": ("legacy", "metrics: [l2, kl_divergence]\n", "metrics[1]: legacy cannot answer 'kl_divergence'"),
    "itself": ("native", "reference: native\n", "reference: 'native' is the only engine of this case"),
    "no-metric": ("native", "reference: legacy\nmetrics: [kl_divergence]\n", "'legacy' has none of kl_divergence"),
}


@pytest.mark.parametrize(("engine", "more", "said"), REFUSED.values(), ids=REFUSED)
def test_what_nothing_can_be_compared_with_is_refused(project: Project, engine: str, more: str, said: str) -> None:
    project.case("c", engines=engine, more=more)
    for got in (project.run_inside(), project.inside("validate", "--models", "m.yaml"), project.pytest_inside()):
        assert got.code == 4
        assert said in got.out + got.err
        assert "cases/c.case.yaml:" in got.out + got.err


def test_an_engine_asked_in_addition_can_make_sense_of_it(project: Project) -> None:
    project.case("c", more="reference: native\n")
    assert project.run_inside("--with-engine", "published").code == 0
    project.case("c", engines="legacy", more="metrics: [l2, kl_divergence]\n")
    assert project.run_inside("--with-engine", "native").code == 0


def test_one_variant_that_compares_is_enough(project: Project) -> None:
    matrix = "matrix:\n  which:\n    own: {engines: [native]}\n    other: {engines: [published]}\n"
    project.case("c", more=f"reference: native\n{matrix}")
    assert project.run_inside().code == 0


UNASKED = {
    "metric": (
        "native, legacy", "b", "metrics: [l2, kl_divergence]\n",
        "kl_divergence, which legacy does not have (c[legacy@good])",
    ),
    "reference": (
        "native", "b", "metrics: [l2, kl_divergence]\nreference: legacy\n",
        "kl_divergence with the reference legacy, which does not have them (c[native@good])",
    ),
    "ended": (
        "native", "b a", "expect: {may_find: [ALN001], recoveries: "
        "[{component: mlp, layer: 0, metric: l2, value: 50, within: 1, model: good}], finite: true}\n",
        "expect.recoveries, finite: ALN001 ended the job before its numbers (c[native@good])",
    ),
}  # fmt: skip


@pytest.mark.parametrize("door", ["run", "pytest"])
@pytest.mark.parametrize(("engines", "corrupted", "more", "said"), UNASKED.values(), ids=UNASKED)
def test_what_was_not_compared_is_a_line_of_the_verdict(
    project: Project, engines: str, corrupted: str, more: str, said: str, door: str
) -> None:
    file = project.case("c", engines=engines, more=more)
    file.write_text(file.read_text().replace('corrupted: "b"', f'corrupted: "{corrupted}"'))
    got = project.through(door)
    assert (got.code, got.result.notes) == (0, (f"not compared: {said}",)), got.out
    assert " ".join(got.result.notes[0].split()) in " ".join(got.out.split())


def test_a_case_of_which_everything_is_compared_has_no_such_line(project: Project) -> None:
    more = "reference: published\nmetrics: [l2]\nexpect: {finite: true, top_layers: [{layers: [0]}]}\n"
    project.case("c", engines="native, published", more=more)
    got = project.run_inside()
    assert (got.code, got.result.notes) == (0, ())


@pytest.mark.parametrize(("among", "code"), [(1000, 1), (2, 1), (1, 0)])
def test_top_layers_among_all_of_them_say_nothing(project: Project, among: int, code: int) -> None:
    project.case("c", more=f"expect: {{top_layers: [{{layers: [0], among: {among}, metric: l2}}]}}\n")
    got = project.run_inside()
    assert got.code == code
    assert got.codes - {"SNP002"} == ({"EXP004"} if code else set())
    checked = project.inside("validate", "--models", "m.yaml")
    assert (checked.code, "any would do" in checked.err) == ((4, True) if code else (0, False))


def test_a_warning_that_must_appear_leaves_the_snapshot_on(project: Project) -> None:
    project.case("good", models="good", more="expect: {findings: [HED001]}\nchecks: [headroom, snapshot]\n")
    (project.folder / "m.yaml").write_text(
        "models: [{id: good, source: groundtruth, kind: dial, vocab: 2048, weights: [0.5], logits: extreme, "
        "dtype: float16}]\n"
    )
    assert project.run_inside("--snapshot-update").code == 0
    assert list(project.snapshots) == [f"snapshots/good/native@good.{HERE}.json"]
    project.snapshot().write_text(project.snapshot().read_text().replace('"value": 50', '"value": 60'))
    moved = project.run_inside()
    assert (moved.code, moved.codes) == (1, {"SNP001"})
    status = project.inside("snapshots", "status", "--models", "m.yaml")
    assert "1 candidate" in status.out
