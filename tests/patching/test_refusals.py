"""What cannot be asked is refused before the first forward pass, with both sides and what would be right."""

from __future__ import annotations

import pytest
from plain_transformer import CLEAN, CORRUPTED, VOCAB, loaded

from harness.casefile import Prompts
from harness.engines import answer, engine_named
from harness.models.sources.words import WordTokenizer
from harness.models.tokens import answer_after, read
from harness.patching import walk
from harness.patching.sweep import check_alignment
from harness.vocabulary import AnswerTokens, Question, State, Sweep, Tokens
from harness.vocabulary.errors import PromptError, UnknownName, UsageError
from harness.vocabulary.raised import AlignmentError, FindingError


def tokens(ids) -> Tokens:
    return Tokens(tuple(ids), tuple(f"t{i}" for i in ids))


def asked(clean=CLEAN, corrupted=CORRUPTED, sweep=Sweep(("mlp",)), metrics=("l2",), answers=None):  # noqa: B008  frozen
    return Question(tokens(clean), tokens(corrupted), sweep, metrics, answers)


@pytest.mark.parametrize(
    ("question", "error", "said"),
    [
        (asked(sweep=Sweep(("mpl",))), UnknownName, "'mpl' is not a component; did you mean 'mlp'?"),
        (asked(sweep=Sweep(("mlp",), (9,))), UsageError, "layer 9 does not exist; the model has layers 0 to 2"),
        (asked(metrics=("l2", "cosin")), UnknownName, "'cosin' is not a metric; did you mean 'cosine'?"),
        (asked(sweep=Sweep(("mlp",), strategy="stepwize")), UnknownName,
         "'stepwize' is not a strategy; did you mean 'stepwise'?"),
        (asked(sweep=Sweep(("mlp",), positions=(4,))), UsageError, "position 4 is outside the prompt of 4"),
        (asked(sweep=Sweep(("mlp",), positions=())), UsageError, "no position is given"),
        (asked(sweep=Sweep(("mlp",), ())), UsageError, "no layer is given"),
        (asked(clean=(3,)), AlignmentError, "clean is 1 token ['t3'], corrupted is 4"),
        (asked(clean=(3,), sweep=Sweep(("resid_post",))), AlignmentError, "corrupted is 4"),
    ],
    ids=["component", "layer", "metric", "strategy", "position", "no position", "no layer", "one token against many",
         "one token, whole residual"],
)  # fmt: skip
def test_no_forward_runs_for_a_question_that_cannot_be_asked(plain, question, error, said):
    with pytest.raises(error) as raised:
        walk(loaded(plain), question)
    assert said in str(raised.value)
    assert plain.forwards == 0


@pytest.mark.parametrize(
    ("clean", "corrupted", "first"),
    [((1, 2, 3), (1, 9), 1), ((1, 2), (1, 2, 3), 2), ((5,), (6, 7), 0)],
    ids=["in the middle", "one is the start of the other", "at once"],
)
def test_a_misalignment_shows_both_tokenizations_and_the_first_difference(clean, corrupted, first):
    with pytest.raises(AlignmentError) as raised:
        check_alignment(tokens(clean), tokens(corrupted))
    text, finding = str(raised.value), raised.value.finding
    for ids in (clean, corrupted):
        assert f"{len(ids)}" in text
        assert " ".join(f"'t{i}'" for i in ids) in text
    assert f"first differ at position {first};" in text
    assert (finding.code, finding.evidence["first_difference"]) == ("ALN001", first)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ([], "clean is empty; give at least one token"),
        ("", "clean is empty"),
        (" \n", "clean is empty"),
        ([1, VOCAB], f"clean: token id {VOCAB} is outside the vocabulary of {VOCAB}"),
        ([-1], "token id -1 is outside"),
    ],
    ids=["no ids", "no text", "blank text", "id too high", "negative id"],
)
def test_a_prompt_that_cannot_be_run_is_an_error(plain, prompt, said):
    model = loaded(plain)
    model.tokenizer = WordTokenizer(VOCAB)
    with pytest.raises(PromptError, match=said):
        read(model, prompt, "clean")


def test_text_without_a_tokenizer_is_an_error(plain):
    with pytest.raises(PromptError, match="clean is text and the model has no tokenizer; give a list of token ids"):
        read(loaded(plain), "some text", "clean")


def test_an_answer_of_two_tokens_is_an_error(plain):
    model = loaded(plain)
    model.tokenizer = WordTokenizer(VOCAB)
    prompts = Prompts(clean=(1,), corrupted=(2,))
    with pytest.raises(
        PromptError, match=r"wrong answer 'New York' is 2 tokens \[\d+ 'New', \d+ ' York'\]; give one token"
    ):
        answer_after(model, prompts, "New York", "wrong answer")


@pytest.mark.parametrize("metrics", [("l2",), ("l2", "mse", "cosine", "kl_divergence"), ("log_prob",)], ids=", ".join)
def test_equal_prompts_are_a_zero_baseline_before_any_sweep(plain, metrics):
    given = answer(
        engine_named("native"), loaded(plain), asked(CLEAN, CLEAN, metrics=metrics, answers=AnswerTokens(0, 1))
    )
    assert plain.forwards == 2
    assert {curve.oracle_baseline.state for curve in given.curves} == {State.ZERO_BASELINE}
    assert {cell.recovery.state for curve in given.curves for cell in curve.cells} == {State.ZERO_BASELINE}


def test_answers_default_to_what_the_two_runs_prefer(plain):
    steps = walk(loaded(plain), asked())
    wanted = AnswerTokens(int(steps.clean.argmax()), int(steps.corrupted.argmax()))
    given = answer(engine_named("native"), loaded(plain), asked(metrics=("logit_diff",)))
    assert given.answers == wanted
    assert wanted.answer != wanted.wrong
    (curve,) = given.curves
    assert curve.baseline.value == pytest.approx(float(steps.corrupted[wanted.answer] - steps.corrupted[wanted.wrong]))
    assert curve.baseline.value < 0


def test_runs_that_prefer_the_same_token_need_answers(plain):
    with pytest.raises(FindingError, match="so logit_diff cannot tell them apart") as raised:
        answer(engine_named("native"), loaded(plain), asked(CLEAN, CLEAN, metrics=("logit_diff",)))
    assert raised.value.finding.code == "ANS001"
    assert f"both runs prefer token {raised.value.finding.evidence['token']}," in str(raised.value)
    assert plain.forwards == 2
