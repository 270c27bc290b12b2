"""What a case file may say, what it means, and what it hears about everything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from harness.casefile import CHECKS, Case, CaseFile, Expect, Prompts, Tolerance, load_case
from harness.casefile.language.checks import ALWAYS_ON
from harness.casefile.language.schema import SweepFields
from harness.vocabulary import Direction, Sweep
from harness.vocabulary.errors import CaseFileError
from harness.vocabulary.findings import FINDINGS

Problems = Callable[..., list[str]]

FULL = """\
id: capital-smollm2
about: The Eiffel Tower is in Paris.
tags: [pretrained, factual]
models: [smollm2-135m-f32, dial]
engines: [native, legacy, "my_pkg.engines:patch"]
prompts:
  clean: "The Eiffel Tower is in"
  corrupted: [1, 2, 3]
  answer: " Paris"
  wrong: 42
sweep:
  components: [mlp_out, attn_out, mlp.gate_proj, layers.0.feed_forward]
  layers: [0, 23, -1]
  direction: noising
  positions: [3, -1]
metrics: [l2, logit_diff]
checks: [finiteness, oracle, known-answer]
tolerance:
  recovery_points: 1
  oracle_relative: 1e-3
expect:
  findings: [ORC001]
  may_find: [FIN004]
  baselines:
    - {metric: l2, value: 313.7752, within: 0.01, engine: native, model: dial, component: attn_out}
  recoveries:
    - {component: attn_out, layer: 23, metric: l2, value: -72, within: 2}
  engines:
    legacy: {findings: [FIN004, ENG001], may_find: [FIN005]}
"""


def load(tmp_path: Path, text: str, name: str = "capital.case.yaml") -> Case:
    path = tmp_path / name
    path.write_text(text)
    return load_case(path)


def test_a_full_case_is_read_into_nouns(tmp_path: Path) -> None:
    case = load(tmp_path, FULL)
    assert (case.id, case.path) == ("capital-smollm2", tmp_path / "capital.case.yaml")
    assert case.models == ("smollm2-135m-f32", "dial")
    assert case.engines == ("native", "legacy", "my_pkg.engines:patch")
    assert case.prompts == Prompts(clean="The Eiffel Tower is in", corrupted=(1, 2, 3), answer=" Paris", wrong=42)
    assert case.asked_sweep == Sweep(
        ("mlp_out", "attn_out", "mlp.gate_proj", "layers.0.feed_forward"), (0, 23, -1), Direction.NOISING, (3, -1)
    )
    assert (case.metrics, case.checks) == (("l2", "logit_diff"), ("finiteness", "oracle", "known-answer"))
    assert (case.tolerance.recovery_points, case.tolerance.oracle_relative) == (1.0, 0.001)
    assert case.expect.baselines[0].within == 0.01
    assert (case.expect.recoveries[0].layer, case.expect.recoveries[0].value) == (23, -72.0)


def test_an_engine_of_its_own_replaces_the_whole_expectation(tmp_path: Path) -> None:
    case = load(tmp_path, FULL)
    assert case.expectation("native") == (("ORC001",), ("FIN004",))
    assert case.expectation("legacy") == (("FIN004", "ENG001"), ("FIN005",))


def test_what_a_case_leaves_out_has_its_default(tmp_path: Path, minimal: str) -> None:
    case = load(tmp_path, minimal)
    assert (case.id, case.about, case.tags, case.engines) == ("capital", "", (), ("native",))
    assert case.asked_sweep == Sweep(("mlp_out",), None, Direction.DENOISING, "all")
    assert case.metrics == ("l2", "mse", "cosine")
    assert case.checks == CHECKS
    assert case.tolerance == Tolerance(oracle_points=0.5, oracle_relative=0.005)
    # What is not stated is measured, by dtype: `harness.metrics.tolerances`.
    assert case.tolerance.stated("recovery_points", "float16", 0.25) == 0.25
    assert case.expectation("native") == ((), ())


def test_a_tolerance_is_one_number_or_one_by_dtype(tmp_path: Path, minimal: str) -> None:
    case = load(tmp_path, f"{minimal}tolerance: {{recovery_points: {{float16: 2}}, baseline_relative: 0.3}}\n")
    assert [case.tolerance.stated("recovery_points", each, 0.25) for each in ("float32", "float16")] == [0.25, 2.0]
    assert [case.tolerance.stated("baseline_relative", each, 0.25) for each in ("float32", "float16")] == [0.3, 0.3]


def test_the_checks_of_a_case_are_those_of_the_findings() -> None:
    asked = {kind.check for kind in FINDINGS.values()} - set(ALWAYS_ON)
    assert {"finiteness", "headroom", "laws", "reference", "snapshot"} <= set(CHECKS) <= asked


def test_a_case_knows_its_lines(tmp_path: Path) -> None:
    case = load(tmp_path, FULL)
    assert case.line_of("prompts", "wrong") == 10
    assert case.line_of("expect", "baselines", 0, "metric") == 25
    assert case.line_of("expect", "engines", "legacy", "findings", 1) == 29
    assert case.line_of("tolerance", "oracle_points") == 18
    assert case.line_of("nothing", "of", "this") == 1


def test_a_case_is_its_case_file_with_an_id_and_a_place() -> None:
    written = CaseFile(
        models=("m",), prompts=Prompts(clean="a", corrupted="b"), about="why", tags=("t",), engines=("legacy",),
        reference="native", metrics=("mse",), checks=("reference",), tolerance=Tolerance(recovery_points=1.0),
        precision=True, sweep=SweepFields(layers=(0,)), expect=Expect(finite=True), skip="late", xfail="wrong",
        timeout=5.0,
    )  # fmt: skip
    case = Case.of(written, Path("made.case.yaml"), variant="one")
    assert (case.id, case.path, case.variant) == ("made.one", Path("made.case.yaml"), "one")
    assert {name: getattr(case, name) for name in CaseFile.model_fields} == {**dict(written), "id": "made.one"}
    given = {name for name in CaseFile.model_fields if getattr(written, name) != CaseFile.model_fields[name].default}
    assert given == {*CaseFile.model_fields} - {"id", "include", "matrix"}


def test_only_a_field_of_a_case_can_be_replaced(tmp_path: Path, minimal: str) -> None:
    case = load(tmp_path, minimal)
    assert case.having(metrics=("mse",)).metrics == ("mse",)
    with pytest.raises(AssertionError):
        case.having(metric=("mse",))


def test_a_case_can_be_made_without_a_file() -> None:
    written = CaseFile(models=("m",), prompts=Prompts(clean="a", corrupted="b"))
    case = Case.of(written, Path("made.case.yaml"))
    assert (case.id, case.line_of("models")) == ("made", 1)


def test_a_file_name_that_is_no_id_asks_for_one(tmp_path: Path, minimal: str) -> None:
    with pytest.raises(CaseFileError) as error:
        load(tmp_path, minimal, "My Case.case.yaml")
    assert str(error.value) == (
        f"{tmp_path}/My Case.case.yaml:1:1: id: is missing, and the file's name gives none: expected lower-case "
        "letters, digits, '.', '_' and '-', at most 80, the first a letter or digit, found 'My Case'"
    )
    assert load(tmp_path, "id: mine\n" + minimal, "My Case.case.yaml").id == "mine"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("sweep: {direction: denoise}",
         "5:20: sweep.direction: 'denoise' is not a direction; did you mean 'denoising'?"),
        ("sweep: {directoin: noising}", "5:9: sweep.directoin: is not a field here; did you mean 'direction'?"),
        ("sweep: {layers: al}", "5:17: sweep.layers: 'al' is not a choice of layers; did you mean 'all'?"),
        ("sweep: {layers: 3}", "5:17: sweep.layers: expected 'all' or a list of layers, found the number 3"),
        ("sweep: {layers: [0, 1, 0]}", "5:24: sweep.layers[2]: 0 is listed twice"),
        ("sweep: {layers: [0, true]}", "5:21: sweep.layers[1]: expected a whole number, found true"),
        ("sweep: {layers: []}", "5:17: sweep.layers: at least one entry is needed"),
        ("sweep: {positions: lats}",
         "5:20: sweep.positions: 'lats' is not a choice of positions; did you mean 'last'?"),
        ("sweep: {positions: 1.5}",
         "5:20: sweep.positions: expected 'all', 'last', 'each' or a list of token positions, found the number 1.5"),
        ("sweep: {components: [mlp out]}",
         "5:22: sweep.components[0]: expected a component such as 'mlp_out' or a module path such as "
         "'mlp.gate_proj', found 'mlp out'"),
        ("sweep:", "5:7: sweep: expected a mapping, found nothing"),
        ("metrics: [l2, mes]", "5:15: metrics[1]: 'mes' is not a metric; did you mean 'mse'?"),
        ("metrics: [l2, l2]", "5:15: metrics[1]: 'l2' is listed twice"),
        ("metrics: l2", "5:10: metrics: expected a list, found the text 'l2'"),
        ("metrics: []", "5:10: metrics: at least one entry is needed"),
        ("metrics: [5]", "5:11: metrics[0]: expected text, found the number 5; put it in quotes"),
        ("checks: [oracel]", "5:10: checks[0]: 'oracel' is not a check; did you mean 'oracle'?"),
        ("checks: [engine]", f"5:10: checks[0]: 'engine' is not a check; known: {', '.join(sorted(CHECKS))}"),
        ("tolerance: {recovery_points: '1'}",
         "5:30: tolerance.recovery_points: expected a number, or numbers by dtype as in {float16: 2}, "
         "found the text '1'"),
        ("tolerance: {recovery_points: {half: 2}}",
         "5:31: tolerance.recovery_points.half: 'half' is not a dtype; known: bfloat16, float16, float32"),
        ("tolerance: {recovery_points: {float16: 101}}",
         "5:40: tolerance.recovery_points.float16: expected a number of at most 100, found 101"),
        ("tolerance: {baseline_relative: {}}", "5:32: tolerance.baseline_relative: at least one entry is needed"),
        ("tolerance: {recovery_points: -1}",
         "5:30: tolerance.recovery_points: expected a number of at least 0, found -1"),
        ("tolerance: {recovery_point: 1}",
         "5:13: tolerance.recovery_point: is not a field here; did you mean 'recovery_points'?"),
        ("engines: [native, 'a b']",
         "5:19: engines[1]: expected an engine's name such as 'native', or 'module:function', found 'a b'"),
        ("tags: [Factual]",
         "5:8: tags[0]: expected lower-case letters, digits, '.', '_' and '-', at most 80, the first a letter or "
         "digit, found 'Factual'"),
        ("id: 12", "5:5: id: expected text, found the number 12; put it in quotes"),
        ("about: no", None),
        ("metric: [l2]", "5:1: metric: is not a field here; did you mean 'metrics'?"),
        ("expect: {findings: [ORC01]}",
         "5:21: expect.findings[0]: 'ORC01' is not a finding to expect; did you mean 'ORC001'?"),
        ("expect: {may_find: [FIN001, FIN001]}", "5:29: expect.may_find[1]: 'FIN001' is listed twice"),
        ("expect: {baselines: [{metric: l2, value: 1}]}", "5:22: expect.baselines[0].within: is missing"),
        ("expect: {baselines: [{metric: kl_divergence, value: 1, within: 0}]}",
         "5:31: expect.baselines[0].metric: 'kl_divergence' is not a metric of this case; known: cosine, l2, mse"),
        ("expect: {baselines: [{metric: l2, value: 1, within: 0, engine: legcy}]}",
         "5:64: expect.baselines[0].engine: 'legcy' is not an engine of this case; known: native"),
        ("expect: {recoveries: [{component: attn_out, layer: 1, metric: l2, value: 1, within: 0, model: tinny}]}",
         "5:35: expect.recoveries[0].component: 'attn_out' is not a component of this case; known: mlp_out\n"
         "5:95: expect.recoveries[0].model: 'tinny' is not a model of this case; did you mean 'tiny'?"),
        ("expect: {engines: {natve: {}}}",
         "5:20: expect.engines.natve: 'natve' is not an engine of this case; did you mean 'native'?"),
        ("expect: {engines: {native: {finding: []}}}",
         "5:29: expect.engines.native.finding: is not a field here; did you mean 'findings'?"),
        ("checks: [finiteness]\nexpect: {findings: [FIN001, ENG001, ORC001]}",
         "6:37: expect.findings[2]: ORC001 comes from the check 'oracle', which `checks` leaves out"),
        ("checks: [oracle]\nexpect: {engines: {native: {findings: [AGR001]}}}",
         "6:40: expect.engines.native.findings[0]: AGR001 comes from the check 'agreement', which `checks` leaves out"),
        ("checks: [oracle]\nexpect: {baselines: [{metric: l2, value: 1, within: 0}], recoveries: [{component: mlp_out, "
         "layer: 1, metric: l2, value: 1, within: 0}]}\nreference: published",
         "6:10: expect.baselines: are compared by the check 'known-answer', which `checks` leaves out\n"
         "6:58: expect.recoveries: are compared by the check 'known-answer', which `checks` leaves out\n"
         "7:1: reference: is asked by the check 'reference', which `checks` leaves out"),
        ("tags: [fine, skip]",
         "5:14: tags[1]: 'skip' cannot be a tag: pytest acts on a mark of this name; choose another"),
        ("sweep: {layers: [1, 2]}\nexpect: {recoveries: [{component: mlp_out, layer: 3, metric: l2, value: 1, "
         "within: 0}]}",
         "6:51: expect.recoveries[0].layer: layer 3 is not in this case's sweep.layers"),
        ("sweep: {layers: [1, -1]}\nexpect: {recoveries: [{component: mlp_out, layer: 3, metric: l2, value: 1, "
         "within: 0}]}",
         None),
        ("expect: {baselines: [{metric: l2, value: 314, within: 1e300}]}",
         "5:55: expect.baselines[0].within: 1e+300 is more than the baseline itself; at most 314"),
        ("expect: {baselines: [{metric: l2, value: 0, within: 2}]}",
         "5:53: expect.baselines[0].within: 2 is more than the baseline itself; at most 1"),
        ("expect: {baselines: [{metric: l2, value: 314, within: 313}, {metric: mse, value: 0, within: 1}]}", None),
        ("expect: {recoveries: [{component: mlp_out, layer: 1, metric: l2, value: 60, within: 1e300}]}",
         "5:85: expect.recoveries[0].within: within 1e+300 points of 60 %, 0 % and 100 % would both do"),
        ("expect: {recoveries: [{component: mlp_out, layer: 1, metric: l2, value: 60, within: 59}]}", None),
        ("expect: {recoveries: [{component: mlp_out, layer: 1, metric: l2, value: -298, within: 200}]}", None),
        ("expect: {baseline_range: [{metric: l2, at_least: 0}]}",
         "5:50: expect.baseline_range[0].at_least: l2 is never below 0, so any baseline would do"),
        ("expect: {baseline_range: [{metric: l2, at_most: 1e300}]}",
         "5:49: expect.baseline_range[0].at_most: expected a number of at most 1e+78, found 1e+300"),
        ("metrics: [logit_diff, l2]\nexpect: {baseline_range: [{metric: logit_diff, at_least: 0}, "
         "{metric: l2, at_least: 1}]}", None),
        ("expect: {minimum_recovery: [{at_least: -1e300}]}",
         "5:40: expect.minimum_recovery[0].at_least: expected a number of at least -1000, found -1e+300"),
        ("tolerance: {oracle_points: 1e300, reference_relative: 1.5}",
         "5:28: tolerance.oracle_points: expected a number of at most 100, found 1e+300\n"
         "5:55: tolerance.reference_relative: expected a number of at most 1, found 1.5"),
        ("expect: {may_find: [ALN001], top_layers: [{layers: [1]}]}",
         "5:21: expect.may_find[0]: ALN001 ends a job before its numbers, and expect.top_layers states some of the "
         "same jobs"),
        ("engines: [native, legacy]\nexpect:\n  engines: {legacy: {findings: [ALN001]}}\n"
         "  minimum_recovery: [{at_least: 1, engine: legacy}]",
         "7:33: expect.engines.legacy.findings[0]: ALN001 ends a job before its numbers, and expect.minimum_recovery "
         "states some of the same jobs"),
        ("engines: [native, legacy]\nexpect:\n  engines: {legacy: {findings: [ALN001]}}\n"
         "  minimum_recovery: [{at_least: 1, engine: native}]", None),
        ("expect: {may_find: [ALN001], top_layers: [{layers: [1], model: tiny}], finite: true}", None),
        ("xfail: {reason: known, codes: [ORC001, ORC001]}", "5:40: xfail.codes[1]: 'ORC001' is listed twice"),
        ("xfail: [{reason: known, codes: [XFL001]}]",
         "5:33: xfail[0].codes[0]: 'XFL001' is not a finding that fails a job; did you mean 'SHF001'?"),
        ("xfail: {codes: [ORC001]}", "5:8: xfail.reason: is missing"),
        ("skip: {reason: slow, codes: [ORC001]}", "5:22: skip.codes: is not a field here; did you mean 'model'?"),
        ("xfail: {reason: known, engine: legacy}",
         "5:32: xfail.engine: 'legacy' is not an engine of this case; known: native"),
    ],
)  # fmt: skip
def test_every_message(problems: Problems, tmp_path: Path, minimal: str, extra: str, message: str | None) -> None:
    if message is None:
        assert load(tmp_path, f"{minimal}{extra}\n").models == ("tiny",)
    else:
        assert problems(f"{minimal}{extra}\n") == [f"x.case.yaml:{line}" for line in message.split("\n")]


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ("{clean: a}", "2:10: prompts.corrupted: is missing"),
        ("{clean: '', corrupted: a}", "2:18: prompts.clean: expected text, found empty text"),
        ("{clean: [], corrupted: a}", "2:18: prompts.clean: at least one entry is needed"),
        ("{clean: [1, x], corrupted: a}", "2:22: prompts.clean[1]: expected a whole number, found the text 'x'"),
        ("{clean: [-1], corrupted: a}", "2:19: prompts.clean[0]: expected a number of at least 0, found -1"),
        ("{clean: 5, corrupted: a}",
         "2:18: prompts.clean: expected text, a list of token ids, or `messages`, found the number 5"),
        ("{clean: no, corrupted: true}",
         "2:33: prompts.corrupted: expected text, a list of token ids, or `messages`, found true"),
        ("{clean: a, corrupted: b, answer: c}",
         "2:43: prompts.answer: 'answer' needs 'wrong' beside it; give both or neither"),
        ("{clean: a, corrupted: b, wrong: 0}",
         "2:42: prompts.wrong: 'wrong' needs 'answer' beside it; give both or neither"),
        ("{clean: a, corrupted: b, answer: 7, wrong: 7}",
         "2:53: prompts.wrong: is the same as 'answer'; no metric could tell them apart"),
        ("{clean: a, corrupted: b, answer: [1], wrong: -1}",
         "2:43: prompts.answer: expected text, a token id, or `text` and `token: first`, found a list\n"
         "2:55: prompts.wrong: expected a number of at least 0, found -1"),
        ("{clean: a, corrupted: b, answer: true, wrong: 1}",
         "2:43: prompts.answer: expected text, a token id, or `text` and `token: first`, found true"),
        ("{clean: a, corrupted: b, answer: {text: c}, wrong: d}",
         "2:43: prompts.answer.token: is missing"),
        ("{clean: a, corrupted: b, answer: {text: '', token: last}, wrong: d}",
         "2:50: prompts.answer.text: expected text, found empty text\n"
         "2:61: prompts.answer.token: 'last' is not a token of an answer; known: first"),
        ("{clean: a, corrupted: b, answer: {text: c, token: first}, wrong: {text: c, token: first}}",
         "2:75: prompts.wrong: is the same as 'answer'; no metric could tell them apart"),
        ("{clean: {messages: []}, corrupted: {message: []}}",
         "2:29: prompts.clean.messages: at least one entry is needed\n"
         "2:45: prompts.corrupted.messages: is missing\n"
         "2:46: prompts.corrupted.message: is not a field here; did you mean 'messages'?"),
        ("{clean: {messages: [{role: user}]}, corrupted: {messages: hello}}",
         "2:30: prompts.clean.messages[0].content: is missing\n"
         "2:68: prompts.corrupted.messages: expected a list, found the text 'hello'"),
        ("{clean: a, corrupted: b, special_tokens: no}",
         "2:51: prompts.special_tokens: expected true or false, found the text 'no'"),
        ("{clean: [1], corrupted: {messages: [{role: user, content: a}]}, special_tokens: false}",
         "2:90: prompts.special_tokens: says nothing here: they are added to text, and neither prompt is text"),
        ("{messages: [{role: user, content: a}]}",
         "2:10: prompts.clean: is missing\n2:10: prompts.corrupted: is missing\n"
         "2:11: prompts.messages: is not a field here; known: answer, clean, corrupted, file, special_tokens, wrong"),
        ("a b", "2:10: prompts: expected a pair of prompts, a list of pairs, or `file`, found the text 'a b'"),
    ],
)  # fmt: skip
def test_every_message_about_prompts(problems: Problems, prompts: str, message: str) -> None:
    found = problems(f"models: [tiny]\nprompts: {prompts}\n")
    assert found == [f"x.case.yaml:{line}" for line in message.split("\n")]


def test_all_faults_are_reported_at_once_in_file_order(problems: Problems) -> None:
    text = "modles: [tiny]\nprompts:\n  clean: a\nsweep:\n  direction: up\nmetrics: [l3]\n"
    assert problems(text) == [
        "x.case.yaml:1:1: models: is missing",
        "x.case.yaml:1:1: modles: is not a field here; did you mean 'models'?",
        "x.case.yaml:3:3: prompts.corrupted: is missing",
        "x.case.yaml:5:14: sweep.direction: 'up' is not a direction; known: denoising, noising",
        "x.case.yaml:6:11: metrics[0]: 'l3' is not a metric; known: cosine, "
        "kl_divergence, l2, log_prob, logit_diff, mse",
    ]


def test_a_failed_expectation_cannot_be_expected(problems: Problems, minimal: str) -> None:
    (message,) = problems(minimal + "expect: {findings: [ENG001, EXP001]}\n")
    assert message.startswith("x.case.yaml:5:29: expect.findings[1]: 'EXP001' is not a finding to expect; ")


def test_the_json_schema_shows_names_and_shapes() -> None:
    schema = TypeAdapter(CaseFile).json_schema()
    fields = schema["properties"]
    assert sorted(schema["required"]) == ["models", "prompts"]
    names, code = fields["metrics"]["items"]["anyOf"]
    assert "kl_divergence" in names["enum"]
    assert re.fullmatch(code["pattern"], "module:function")
    assert fields["checks"]["items"]["enum"] == list(CHECKS)
    assert fields["models"]["items"]["pattern"] == "^(tag:)?[a-z0-9*?][a-z0-9._*?-]{0,79}$"
    assert schema["$defs"]["Direction"]["enum"] == ["denoising", "noising"]
    assert all(part["additionalProperties"] is False for part in (schema, schema["$defs"]["Prompts"]))


@pytest.mark.parametrize(
    ("sweep", "position", "wants"),
    [("{}", ", position: 1", "has no use for"), ("{positions: each}", "", "needs")],
    ids=["a position without a grid", "a grid without a position"],
)
def test_a_stated_recovery_names_exactly_one_cell(
    problems: Problems, minimal: str, sweep: str, position: str, wants: str
) -> None:
    stated = f"{{component: mlp_out, layer: 0, metric: l2, value: 1, within: 1{position}}}"
    (problem,) = problems(f"{minimal}sweep: {sweep}\nexpect: {{recoveries: [{stated}]}}\n")
    assert f"expect.recoveries[0]: a recovery of this sweep {wants} a position" in problem


@pytest.mark.parametrize("component", ["z", "q", "k", "v"])
def test_a_recovery_of_heads_names_one(component: str, problems: Problems, minimal: str) -> None:
    cell = "layer: 1, metric: l2, value: 60, within: 1"
    swept = f"{minimal}sweep: {{components: [{component}, mlp_post]}}\n"
    (problem,) = problems(f"{swept}expect: {{recoveries: [{{component: {component}, {cell}}}]}}\n")
    assert problem.endswith(f"expect.recoveries[0].component: {component!r} needs a head")
    (problem,) = problems(f"{swept}expect: {{recoveries: [{{component: mlp_post, head: 0, {cell}}}]}}\n")
    assert problem.endswith("expect.recoveries[0].component: 'mlp_post' has no heads; only z, q, k, v have")
