"""Parts of a run: every job in exactly one, the same on every machine, and put together again or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.results.shards import Shard, Task, members, merged, with_floor
from harness.vocabulary import Environment, JobResult, RunResult, Status
from harness.vocabulary.backends import CPU
from harness.vocabulary.errors import UsageError

TASKS = st.lists(
    st.builds(Task, st.integers(0, 9999).map(str), st.sampled_from("abcdefg"), st.sampled_from([1, 10])),
    unique_by=lambda task: task.id,
    max_size=60,
)


AT_ANY_PACE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@AT_ANY_PACE
@given(TASKS, st.integers(1, 12), st.randoms())
def test_every_job_is_in_one_part_whatever_the_order(tasks, count, random):
    shuffled = random.sample(tasks, len(tasks))
    parts = [members(Shard(number, count), tasks) for number in range(1, count + 1)]
    assert sorted(name for part in parts for name in part) == sorted(task.id for task in tasks)
    assert parts == [members(Shard(number, count), shuffled) for number in range(1, count + 1)]


@AT_ANY_PACE
@given(TASKS, st.integers(1, 12))
def test_no_part_costs_more_than_two_even_ones_or_one_job(tasks, count):
    """Whoever gives each piece to the cheapest part ends below an even part plus the largest piece (Graham, 1966)."""
    even = -(-sum(task.cost for task in tasks) // count)
    largest = max([even, *(task.cost for task in tasks)])
    for number in range(1, count + 1):
        part = members(Shard(number, count), tasks)
        assert sum(task.cost for task in tasks if task.id in part) <= even + largest


def test_a_model_stays_together_while_the_parts_come_out_even():
    tasks = [Task(f"{model}{i}", model) for model in "abcdefgh" for i in range(5)]
    parts = [members(Shard(number, 4), tasks) for number in range(1, 5)]
    assert [len(part) for part in parts] == [10] * 4
    assert all(len({name[0] for name in part}) == 2 for part in parts)


def test_one_model_is_cut_into_as_many_pieces_as_there_are_parts():
    tasks = [Task(str(i), "m") for i in range(12)]
    assert [len(members(Shard(number, 4), tasks)) for number in range(1, 5)] == [3] * 4


def test_a_job_on_a_pretrained_model_counts_for_ten():
    tasks = [Task("large", "large", 10), *(Task(str(i), f"small{i}") for i in range(10))]
    assert sorted(len(members(Shard(number, 2), tasks)) for number in (1, 2)) == [1, 10]


@pytest.mark.parametrize(
    "text", ["", "3", "0/3", "4/3", "-1/3", "1/0", "1/3/5", "a/b", " 1/3", "1/3\n", "1/99999", "٣/٨"]
)
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UsageError, match="expected I/N with I from 1 to N"):
        Shard.parse(text)


def test_a_shard_reads_as_it_is_written():
    assert str(Shard.parse("3/8")) == "3/8"


HERE = Environment("0.1.0", "3.11", "Linux", CPU, "a processor", {"mlx": "0.32.4"})
PLAN = ("a", "b", "c", "d")


def part(number: int, jobs: str, verdict: str = "passed", **more) -> tuple[str, RunResult]:
    """The result of a shard of two, with one job a letter."""
    results = tuple(JobResult(name, "c", "f", "m", "e", Status(verdict)) for name in jobs)
    run = RunResult(Status(verdict), 0, HERE, results, f"2026-01-0{number}", 1.5, shard=f"{number}/2", planned=PLAN)
    return f"{number}.json", replace(run, **more)


ASKED = {"a": "1", "b": "2", "c": "3", "d": "4"}


@pytest.mark.parametrize(
    ("first", "second", "odd"),
    [
        (ASKED, ASKED, ""),
        (ASKED, {}, ""),
        (ASKED, {**ASKED, "d": "9"}, "d"),
        (ASKED, dict.fromkeys(ASKED, "9"), "a, b"),
    ],
    ids=["alike", "of an older version", "another question", "narrowed"],
)
def test_shards_of_other_questions_are_refused(first, second, odd):
    parts = [part(1, "ab", plan=first), part(2, "cd", plan=second)]
    if not odd:
        assert merged(parts).exit_code == 0
        return
    with pytest.raises(UsageError, match=f"2.json and 1.json are cut from different runs: they ask {odd}"):
        merged(parts)


def test_two_shards_are_one_run():
    run = merged([part(2, "db"), part(1, "ca")])
    assert [job.id for job in run.jobs] == ["a", "b", "c", "d"]
    assert (run.verdict, run.exit_code, run.shard, run.planned) == (Status.PASSED, 0, None, PLAN)
    assert (run.started, run.duration_s, run.notes) == ("2026-01-01", 3.0, ())


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([part(1, "ab")], "no result of shard 2/2"),
        ([part(1, "ab", shard="1/4"), part(3, "c", shard="3/4")], "no result of shards 2/4, 4/4"),
        ([part(1, "ab"), part(2, "cd"), part(2, "cd")], "2.json and 2.json are both shard 2/2"),
        ([part(1, "ab"), part(2, "cd", shard=None)], "2.json is the result of a whole run"),
        ([part(1, "ab"), part(2, "cd", shard="2/3")], "1.json is one of 2 shards and 2.json one of 3"),
        ([part(1, "ab"), part(2, "cd", planned=(*PLAN, "e"))], "only one of them planned e"),
        ([part(1, "abc"), part(2, "cd")], "c has more than one result, in 1.json and 2.json"),
        ([part(1, "ab"), part(2, "cd", shard="2/0")], "expected I/N"),
    ],
    ids=["missing", "two missing", "twice", "whole", "of another number", "another plan", "job twice", "no shard"],
)
def test_what_is_not_every_part_once_is_refused(parts, said):
    with pytest.raises(UsageError) as raised:
        merged(parts)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("second", "verdict", "code"),
    [
        (part(2, "cd", "failed"), Status.FAILED, 1),
        (part(2, "cd", "skipped"), Status.PASSED, 0),
        (part(2, "cd", "crashed"), Status.CRASHED, 3),
        (("2.json", replace(part(2, "cd")[1], verdict=Status.REFUSED)), Status.REFUSED, 4),
        (("2.json", replace(part(2, "c")[1], verdict=Status.INTERRUPTED, planned=())), Status.INTERRUPTED, 2),
        (("2.json", replace(part(2, "cd")[1], verdict=Status.FAILED)), Status.FAILED, 1),
    ],
    ids=["failed", "skipped", "crashed", "bad case file", "interrupted without a plan", "too few jobs"],
)
def test_the_gravest_part_decides(second, verdict, code):
    run = merged([part(1, "ab"), second])
    assert (run.verdict, run.exit_code) == (verdict, code)


def test_a_planned_job_without_a_result_never_passes():
    run = merged([part(1, "ab"), part(2, "c")])
    assert (run.verdict, run.exit_code) == (Status.INTERRUPTED, 2)
    assert run.notes == ("planned and without a result: d",)


def test_nothing_ran_anywhere():
    empty = [part(number, "", "skipped", planned=()) for number in (1, 2)]
    assert merged(empty).exit_code == 5


def test_shards_of_different_machines_are_noted():
    other = replace(HERE, device="another processor", packages={"mlx": "0.32.3", "numpy": "2"})
    run = merged([part(1, "ab"), part(2, "cd", environment=other)])
    assert run.environment == HERE
    assert run.exit_code == 0
    assert run.notes == (
        "the shards ran on different device: a processor, another processor",
        "the shards ran on different mlx: 0.32.4, 0.32.3",
        "the shards ran on different numpy: none, 2",
    )


def floor(jobs: Sequence[str], least: int | None, verdict: Status = Status.PASSED) -> RunResult:
    results = tuple(JobResult(str(i), "c", "f", "m", "e", Status(status)) for i, status in enumerate(jobs))
    return with_floor(RunResult(verdict, 0, HERE, results, "", 0.0), least)


@pytest.mark.parametrize(
    ("jobs", "least", "code"),
    [
        (["passed"] * 3, None, 0),
        (["passed"] * 3, 3, 0),
        (["passed"] * 3, 4, 1),
        (["passed", "skipped"], 2, 1),
        (["skipped"], 1, 1),
        (["crashed"], 2, 3),
    ],
)
def test_fewer_jobs_than_required_fail_a_run(jobs, least, code):
    run = floor(jobs, least)
    assert run.exit_code == code
    assert bool(run.notes) == (least is not None and code != 0)


def test_too_few_jobs_do_not_soften_an_interrupted_run():
    assert floor(["passed"], 2, Status.INTERRUPTED).verdict is Status.INTERRUPTED
