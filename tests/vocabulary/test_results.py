"""What a result takes from an answer."""

from __future__ import annotations

from dataclasses import fields

from example_results import curve, job

from harness.vocabulary import Answer, AnswerTokens, Concordance, Dequantised, JobResult, Memory, RowSummary, Tokens


def test_a_result_says_what_the_answer_says() -> None:
    given = Answer(
        strategy="stepwise",
        clean=RowSummary(0, 0, 0, 1.0, 2),
        corrupted=RowSummary(0, 0, 0, 1.0, 3),
        curves=(curve(50.0),),
        answers=AnswerTokens(2, 3),
        suppressed=(7,),
        fallback="one-pass raised",
        concordances=(Concordance("mlp_out", ("l2", "mse"), 1.0),),
        memory=Memory(1, 2, 3, 4),
        printed="as told",
        dtype="float16",
        dequantised=Dequantised(4096, 1e-6),
    )
    asked = job(clean=Tokens((1,), ("a",)), corrupted=Tokens((2,), ("b",)), reason="kept")
    result = asked.answered(given)
    moved = {each.name for each in fields(JobResult) if getattr(result, each.name) != getattr(asked, each.name)}
    assert moved == {
        "answers", "suppressed", "strategy", "fallback", "printed", "curves", "concordances", "memory",
        "dequantised",
    }  # fmt: skip
    assert all(getattr(result, name) == getattr(given, name) for name in moved)


def test_of_the_copies_of_several_pairs_the_worst_is_said() -> None:
    used, far = Dequantised(8, 1e-7), Dequantised(8, 3e-7)
    refused = Dequantised(8, None, "half of the free memory is less")
    assert Dequantised.of_all([]) is None
    assert Dequantised.of_all([far, used]) == far
    assert Dequantised.of_all([far, refused, used]) == refused
