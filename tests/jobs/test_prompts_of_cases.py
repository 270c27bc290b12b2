"""Prompts and answers of cases on a folder with a tokenizer of its own: `validate`, `run`, `show` and `patch` agree."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import Outcome, Project, project  # noqa: F401
from toy_tokenizers import folder_with, toy

TABLE = """\
models:
  - {{id: plain, source: path, path: {folder}/plain}}
  - {{id: chat, source: path, path: {folder}/chat}}
  - {{id: cut, source: path, path: {folder}/cut}}
"""
SPACED = 'answer: " Paris", wrong: " Rome"'
TEXT = "clean: The capital of France is, corrupted: The capital of Italy is"
ASKED = (
    'clean: {messages: [{role: user, content: "%s"}]}, '
    "corrupted: {messages: [{role: user, content: The capital of Italy}]}"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models")
    folder_with(toy("byte-level with BOS"), place / "plain")
    folder_with(toy("byte-level with BOS", chat=True), place / "chat")
    folder_with(toy("byte-level with BOS"), place / "cut")
    batches = {
        "truncation": {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Left", "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
                    "pad_to_multiple_of": None},
    }  # fmt: skip
    file = place / "cut" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | batches))
    return place


@pytest.fixture
def ask(project: Project, folders: Path) -> Callable[..., Outcome]:  # noqa: F811
    project.write("m.yaml", TABLE.format(folder=folders))

    def run(command: str, prompts: str, *more: str, model: str = "chat") -> Outcome:
        text = f"models: [{model}]\nprompts: {{{prompts}}}\nmetrics: [logit_diff]\nsweep: {{components: [mlp]}}\n"
        project.write("cases/a.case.yaml", text)
        if command == "run":
            return project.run_inside(*more)
        return project.inside(command, *(["a"] if command == "show" else []), "--models", "m.yaml", *more)

    return run


REFUSED = [
    (f"{TEXT}, answer: ' Paris is', wrong: ' Rome'", "prompts.answer", "is 2 tokens ["),
    (f"{TEXT}, answer: ' Paris', wrong: {{text: ' Paris is', token: first}}", "prompts.wrong",
     "are the same token ["),
    ("clean: 'It is ', corrupted: 'It is ', answer: Paris, wrong: ' Rome'", "prompts.answer",
     "move the space at the end of the prompt"),
    (f"{ASKED % 'Name it'}, {SPACED}", "prompts.corrupted", "tokens where `clean` has"),
    ("clean: {messages: [{role: system, content: It}]}, corrupted: The", "prompts.clean",
     "the chat template refuses the messages: "),
]  # fmt: skip


@pytest.mark.parametrize(("prompts", "path", "said"), REFUSED)
def test_validate_says_where_and_a_run_refuses_in_the_same_words(
    ask: Callable[..., Outcome], prompts: str, path: str, said: str
) -> None:
    told, got = ask("validate", prompts), ask("run", prompts)
    assert told.code == 4
    assert re.search(rf"cases/a.case.yaml:2:\d+: {path}: .*{re.escape(said)}", told.err), told.err
    (job,) = got.result.jobs
    if path == "prompts.corrupted":
        assert (got.code, got.codes) == (1, {"ALN001"})
    else:
        assert (got.code, job.status.value) == (4, "refused")
        assert said in job.reason


def test_messages_without_a_template_are_refused_where_they_stand(ask: Callable[..., Outcome]) -> None:
    prompts = f"{ASKED % 'The capital of France'}, {SPACED}"
    told, got = ask("validate", prompts, model="plain"), ask("run", prompts, model="plain")
    assert told.code == 4
    assert "a.case.yaml:2:18: prompts.clean: the prompt has messages, and the model's tokenizer has no chat" in told.err
    assert [job.status.value for job in got.result.jobs] == ["refused"]
    assert "prompts.clean has messages, and the model's tokenizer has no chat template" in got.result.jobs[0].reason


def test_how_batches_are_cut_and_filled_up_is_nothing_to_a_prompt(ask: Callable[..., Outcome]) -> None:
    for prompts, codes in ((f"{TEXT}, {SPACED}", set()), ("clean: It is 5, corrupted: It is 5 6", {"ALN001"})):
        told, got = ask("validate", prompts, model="cut"), ask("run", prompts, model="cut")
        assert (told.code, got.codes & {"ALN001", "TOK003"}) == (4 if codes else 0, codes), told.err


@pytest.mark.parametrize(
    "prompts",
    [
        f"{TEXT}, {SPACED}",
        f"{TEXT}, {SPACED}, special_tokens: false",
        f"{TEXT}, answer: {{text: ' Paris is', token: first}}, wrong: ' Rome'",
        f"{ASKED % 'The capital of France'}, {SPACED}",
    ],
    ids=["text", "bare", "first", "chat"],
)
def test_what_can_be_read_passes_everywhere_without_a_warning(ask: Callable[..., Outcome], prompts: str) -> None:
    told, got = ask("validate", prompts), ask("run", prompts, "--strict")
    assert told.code == 0, told.err
    assert "not checked" not in told.out
    (job,) = got.result.jobs
    assert {found.code for found in job.findings} <= {"SNP002", "HED001", "BAS004"}, job.findings
    assert [job.answers.answer, job.answers.wrong] == toy("byte-level with BOS").encode(" Paris Rome")[1:]


def test_special_tokens_and_a_template_are_other_tokens_in_the_result(ask: Callable[..., Outcome]) -> None:
    """The result holds the ids, so that another question under the same id is seen as such."""
    turn = '{messages: [{role: user, content: "%s"}]}'
    asked = {
        "text": f"{TEXT}, {SPACED}",
        "bare": f"{TEXT}, {SPACED}, special_tokens: false",
        "chat": f"clean: {turn % 'The capital of France is'}, corrupted: {turn % 'The capital of Italy is'}, {SPACED}",
    }
    ids = {name: ask("run", prompts).result.jobs[0].clean.ids for name, prompts in asked.items()}
    assert ids["text"] == (1, *ids["bare"])
    assert ids["chat"][:2] == (1, 6)
    assert ids["chat"][-1] == 7
    assert len({*ids.values()}) == 3


def test_a_second_bos_is_a_warning_that_strict_fails(ask: Callable[..., Outcome]) -> None:
    twice = f"clean: <s>The capital of France is, corrupted: <s>The capital of Italy is, {SPACED}"
    for options, code in (((), 0), (("--strict",), 1)):
        got = ask("run", twice, *options)
        assert (got.code, "TOK001" in got.codes) == (code, True), got.out
    shown = ask("show", twice)
    assert "TOK001: clean, corrupted: begins with [1 '<s>', 1 '<s>']" in " ".join(shown.out.split())
    assert "TOK001" not in ask("run", f"{twice}, special_tokens: false").codes


def test_show_has_the_answers_in_words(ask: Callable[..., Outcome]) -> None:
    paris, rome = toy("byte-level with BOS").encode(" Paris Rome")[1:]
    assert f"answer ' Paris' {paris}, wrong answer ' Rome' {rome}" in ask("show", f"{TEXT}, {SPACED}").out
    (model,) = json.loads(ask("show", f"{TEXT}, {SPACED}", "--json").out)[0]["models"]
    assert model["answers"] == {"answer": {"id": paris, "text": " Paris"}, "wrong": {"id": rome, "text": " Rome"}}


# -- patch -------------------------------------------------------------------------------------------------------------

FRANCE, ITALY = "The capital of France is", "The capital of Italy is"


@pytest.fixture
def patch(project: Project, folders: Path) -> Callable[..., Outcome]:  # noqa: F811
    def run(*options: Any, clean: str = FRANCE, corrupted: str = ITALY) -> Outcome:
        base = ["patch", "-m", folders / "chat", "--metric", "logit_diff", "--clean", clean, "--corrupted", corrupted]
        return project.inside(*base, *options)

    return run


@pytest.mark.parametrize(
    "options",
    [
        ["--answer", " Paris", "--wrong", " Rome"],
        ["--answer", " Paris is", "--wrong", " Rome", "--first-token"],
        ["--answer", " Paris", "--wrong", " Rome", "--chat"],
        ["--answer", " Paris", "--wrong", " Rome", "--no-special-tokens"],
    ],
)
def test_patch_reads_answers_as_cases_do(patch: Callable[..., Outcome], options: list[str]) -> None:
    got = patch(*options)
    assert (got.code, got.err) == (0, ""), got.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--answer", " Paris is", "--wrong", " Rome"], "--answer ' Paris is' is 2 tokens ["),
        (["--answer", " Paris", "--wrong", " Paris"], "--answer ' Paris' and --wrong ' Paris' are the same token"),
        (["--first-token"], "--first-token needs --answer and --wrong"),
        (["--ids", "--chat"], "--ids, --chat and --no-special-tokens exclude each other"),
    ],
)
def test_patch_refuses_answers_as_cases_do(patch: Callable[..., Outcome], options: list[str], said: str) -> None:
    got = patch(*options)
    assert got.code == 4
    assert said in got.err


def test_patch_warns_of_a_second_bos(patch: Callable[..., Outcome]) -> None:
    got = patch("--answer", " Paris", "--wrong", " Rome", clean=f"<s>{FRANCE}", corrupted=f"<s>{ITALY}")
    assert got.code == 0
    assert "harness: TOK001: clean, corrupted: begins with [1 '<s>', 1 '<s>']" in got.err
    once = patch("--no-special-tokens", clean=f"<s>{FRANCE}", corrupted=f"<s>{ITALY}")
    assert (once.code, once.err) == (0, "")
