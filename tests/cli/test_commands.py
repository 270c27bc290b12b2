"""`list`, `validate`, `models`, `doctor` and `patch`."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from project import Project

TABLE = ("--models", "m.yaml")


def words(text: str) -> str:
    return " ".join(text.split())


def test_list_shows_the_jobs_of_a_run_and_runs_none(project: Project) -> None:
    project.case("a", models="good, other", engines="native, legacy", more="tags: [fast]\n")
    project.case("b")
    got = project.inside("list", *TABLE)
    assert got.code == 0
    assert "5 jobs in 2 cases" in got.out
    assert "4 jobs in 1 case" in project.inside("list", *TABLE, "--tag", "fast").out
    assert "1 job in 1 case" in project.inside("list", *TABLE, "--model", "other", "-e", "legacy").out


def test_validate_counts(project: Project) -> None:
    project.case("a", models="good, other")
    got = project.inside("validate", *TABLE)
    assert (got.code, got.out.splitlines()[0]) == (0, "1 case file is valid; it makes 2 jobs.")


def test_an_expectation_that_no_engine_can_answer_is_a_mistake(project: Project) -> None:
    stated = "metrics: [l2, kl_divergence]\nexpect: {minimum_recovery: [{metric: kl_divergence, at_least: 1000%s}]}\n"
    file = project.case("a", engines="legacy, native", more=stated % ", engine: legacy")
    for command in ("validate", "run"):
        got = project.inside(command, *TABLE, file)
        assert (got.code, "6:38: expect.minimum_recovery[0].metric: legacy cannot answer" in got.err) == (4, True)
    assert project.inside("validate", *TABLE, project.case("a", engines="legacy, native", more=stated % "")).code == 0
    varied = stated % "" + "matrix: {by: {one: {engines: [legacy]}, two: {engines: [native]}}}\n"
    assert project.inside("validate", *TABLE, project.case("a", more=varied)).code == 0


def test_validate_says_every_problem_of_every_file(project: Project) -> None:
    project.case("a", models="goood, otter", engines="nativ")
    project.write("cases/b.case.yaml", "models: [good]\nprompt: 3\nmetrics: [l3]\n")
    project.write("cases/c.case.yaml", "models: [unclosed\n")
    got = project.inside("validate", *TABLE)
    assert got.code == 4
    for where in ("a.case.yaml:1:", "a.case.yaml:2:", "b.case.yaml:2:", "b.case.yaml:3:", "c.case.yaml:"):
        assert f"cases/{where}" in got.err
    for hint in ("did you mean 'good'?", "did you mean 'other'?", "did you mean 'native'?", "did you mean 'prompts'?"):
        assert hint in got.err


def test_validate_refuses_two_files_of_one_id(project: Project) -> None:
    project.case("a", more="id: same\n")
    project.case("b", more="id: same\n")
    got = project.inside("validate", *TABLE)
    assert got.code == 4
    assert "have the same id 'same'" in got.err


def test_models_list(project: Project) -> None:
    got = project.inside("models", "list", *TABLE)
    assert got.code == 0
    for name in ("smollm2-135m-f32", "good", "wide"):
        assert name in got.out
    absent = next(line for line in got.out.splitlines() if line.split()[:1] == ["absent"])
    assert "not fetched" in absent


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("goood", 4, "'goood' is neither a model, a folder nor a repository `org/name`; did you mean 'good'?"),
        ("good", 4, "good: nothing to fetch; a groundtruth model is made on this machine"),
        ("absent", 5, "cannot be downloaded"),
    ],
)
def test_models_fetch(project: Project, name: str, code: int, message: str) -> None:
    got = project.inside("models", "fetch", *TABLE, name)
    assert got.code == code
    assert message in got.err
    assert "Traceback" not in got.err


@pytest.mark.parametrize("command", ["list", "validate", "models list", "run"])
def test_a_table_that_cannot_be_read(project: Project, command: str) -> None:
    project.case("a")
    project.write("bad.yaml", "models:\n  - {id: x, source: grundtruth}\n")
    assert project.inside(*command.split(), "--models", "nope.yaml").code == 4
    got = project.inside(*command.split(), "--models", "bad.yaml")
    assert got.code == 4
    assert "bad.yaml:2:" in got.err


def test_doctor_is_content_with_this_machine(project: Project) -> None:
    got = project.inside("doctor")
    assert got.code == 0
    for word in ("harness", "mlx", "backend", "finiteness detector", "float64 metrics"):
        assert word in got.out
    assert "FAILED" not in got.out


def test_doctor_finds_a_blind_detector(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import metrics
    from harness.vocabulary import RowSummary

    monkeypatch.setattr(metrics, "summarize", lambda row: RowSummary(0, 0, 0, 1.5, None))
    got = project.inside("doctor")
    assert got.code == 1
    assert "the host's copy: 480 planted values missed" in got.out


def test_doctor_finds_a_detector_that_cries_wolf(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import metrics
    from harness.vocabulary import RowSummary

    monkeypatch.setattr(metrics, "summarize", lambda row: RowSummary(1, 0, 0, None, 0))
    got = project.inside("doctor")
    assert got.code == 1
    assert "clean rows flagged" in got.out


def test_doctor_finds_a_wrong_metric(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness import metrics
    from harness.vocabulary import Reading

    monkeypatch.setattr(metrics, "measure", lambda *_: Reading.of(292.3))
    assert project.inside("doctor").code == 1


def patch(*args: str) -> tuple[str, ...]:
    return ("patch", *TABLE, "-m", "good", "--clean", "a", "--corrupted", "b", "-c", "mlp", *args)


def test_patch_prints_the_closed_form(project: Project) -> None:
    """A dial of weights 0.5 and 0.25 recovers 50 and 25 percent in L2, 75 and 43.75 in MSE; its whole residual 100."""
    got = project.inside(*patch("--metric", "l2", "--metric", "mse", "-c", "resid_post"))
    rows = [line.split() for line in got.out.splitlines()]
    assert got.code == 0
    assert ["0", "50.0", "75.0", "100.0", "100.0"] in rows
    assert ["1", "25.0", "43.8", "100.0", "100.0"] in rows
    assert any(row[:1] == ["baseline"] for row in rows)


def test_patch_with_ids_layers_and_direction(project: Project) -> None:
    args = ["patch", *TABLE, "-m", "good", "--ids", "--clean", "0,3,0", "--corrupted", "0,3,1", "-c", "mlp"]
    noising = project.inside(*args, "--layers=-1", "--direction", "noising")
    rows = [line.split() for line in noising.out.splitlines()]
    assert ["1", "75.0"] in rows
    assert not any(row[:1] == ["0"] for row in rows)
    elsewhere = project.inside(*args, "--positions", "0,1")
    assert ["0", "0.0"] in [line.split() for line in elsewhere.out.splitlines()]


def test_patch_says_what_legacy_gets_wrong(project: Project) -> None:
    got = project.inside(*patch("-m", "wide", "-e", "legacy"))
    assert got.code == 1
    assert "float64 on the same logits gives 313.6" in words(got.out)


def test_patch_never_shows_a_number_for_an_undefined_recovery(project: Project) -> None:
    got = project.inside("patch", *TABLE, "-m", "good", "--clean", "a", "--corrupted", "a", "-c", "mlp")
    assert "zero-baseline" in got.out
    assert "0.0" not in got.out
    got = project.inside(*patch("-m", "nan"))
    assert "nan" in got.out
    assert "0.0" not in got.out


def test_patch_shows_no_number_where_there_is_nothing_but_rounding(project: Project) -> None:
    prompts = ["--ids", "--clean", "5,6,7,8", "--corrupted", "5,9,7,8", "-c", "mlp", "--metric", "logit_diff"]
    answers = ["--answer", "824", "--wrong", "794"]  # 0.005 logits apart, where float16 rounds by 0.02
    got = project.inside("patch", "-m", "llama-2k-f16", *prompts, *answers)
    assert got.code == 1, got.err
    assert "BAS002 clean and corrupted are no farther apart than rounding puts them" in words(got.out)
    assert got.out.count("ill-conditioned") == 5  # four layers and the baseline
    assert project.inside("patch", "-m", "llama-2k-f16", *prompts).code == 0


def test_patch_warns_of_answers_in_each_others_place(project: Project) -> None:
    got = project.inside(*patch("--metric", "logit_diff", "--answer", " b", "--wrong", " a"))
    assert got.code == 0
    assert "BAS004" in got.out


@pytest.mark.parametrize(
    ("args", "codes"),
    [
        (("-m", "nan"), ("FIN002", "FIN004")),
        (("-m", "wide", "-e", "legacy"), ("FIN004", "FIN005", "ORC001", "ORC002")),
        (("-m", "nan", "-e", "published"), ("FIN002", "FIN004", "ORC003")),
        (("--corrupted", "a"), ("BAS001",)),
        (("--corrupted", "a", "--metric", "mse", "-c", "resid_post"), ("BAS001",)),
        (("--corrupted", "a", "--metric", "l2", "--metric", "logit_diff"), ("ANS001", "BAS001")),
        (("--metric", "l2", "--metric", "logit_diff"), ()),
        (("-m", "wide"), ()),
    ],
    ids=" ".join,
)
def test_patch_finds_what_a_run_finds_and_says_how_to_look_further(
    project: Project, args: tuple[str, ...], codes: tuple[str, ...]
) -> None:
    got = project.inside(*patch(*args))
    found = {line[:6] for line in got.out.splitlines() if re.match(r"[A-Z]{3}[0-9]{3}", line)}
    assert (found, got.code) == (set(codes), 1 if codes else 0)
    commands = [line for line in got.out.splitlines() if line.startswith("Where it comes from: ")]
    assert len(commands) == bool(codes)
    for command in commands:
        told = project.inside(*shlex.split(command.partition(": ")[2])[1:])
        assert (told.code, told.err) == (1, "")
        assert "**Remedy:**" in told.out
    if "logit_diff" not in args:  # a case of a run names its models and engines
        options = dict(zip(args[::2], args[1::2], strict=True))
        project.case("c", models=options.get("-m", "good"), engines=options.get("-e", "native"))
        case = project.folder / "cases" / "c.case.yaml"
        case.write_text(case.read_text().replace('corrupted: "b"', f"corrupted: {options.get('--corrupted', 'b')}"))
        run = project.run_inside("--metric", "l2")
        assert {code for code in run.codes if code[:3] in ("FIN", "BAS", "ANS", "ORC")} == set(codes)


def test_patch_draws(project: Project) -> None:
    pytest.importorskip("matplotlib")
    got = project.inside(*patch("--plot", "p.png"))
    assert (got.code, got.out.splitlines()[-1]) == (0, "drawn: p.png")
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--layers", "0,x"], "--layers: '0,x' is not a list of whole numbers"),
        (["--layers", "7"], "7"),
        (["--positions", "lst"], "--positions: 'lst' is not a list of whole numbers"),
        (["--positions", "5"], "5"),
        (["--direction", "denoise"], "did you mean 'denoising'?"),
        (["--metric", "l3"], "'l3' is not a metric"),
        (["--metric", "log_prob", "-e", "legacy"], "metric of legacy"),
        (["-e", "lgacy"], "did you mean 'legacy'?"),
        (["-m", "goood"], "did you mean 'good'?"),
        (["-c", "mpl"], "did you mean 'mlp'?"),
        (["--ids"], "prompt: 'a' is not a list of whole numbers"),
        (["--answer", "a"], "--answer and --wrong come together"),
        (["--clean", ""], "--clean"),
        (["--clean", "zebra"], "zebra"),
        (["--plot", "nowhere/p.png"], "nowhere/p.png: the folder"),
        (["--plot", "p.xyz"], "p.xyz ends in .xyz; a picture ends in"),
    ],
)
def test_patch_refuses(project: Project, args: list[str], message: str) -> None:
    got = project.inside(*patch(*args))
    assert got.code == 4, got.out + got.err
    assert message in got.err
    assert "Traceback" not in got.err


def test_patch_shows_prompts_of_unequal_length(project: Project) -> None:
    got = project.inside(*patch("--clean", "a b"))
    assert got.code == 1
    assert "ALN001" in got.err
    assert "clean is 2 tokens" in got.err
