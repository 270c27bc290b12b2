"""A case resolved: its jobs, the tokens of both prompts, and the hook points of its sweep on every model.

All that can be known without a forward pass is here, as JSON types; the models are loaded, because only a loaded model
knows its modules and its tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import zip_longest
from typing import Any

from harness import models
from harness.casefile import Case, Prompts
from harness.environment.facts import backend
from harness.intercept import HookPoint, resolve
from harness.jobs.pairs import questions_of
from harness.jobs.planning import Job, metrics_of
from harness.models import ModelRow
from harness.models.loaded import LoadedModel
from harness.models.remarks import remarks
from harness.models.tokens import piece
from harness.patching import check_question
from harness.snapshots import location_of
from harness.support.progress import say
from harness.vocabulary import Question, metric_named, site_position
from harness.vocabulary.errors import ModelUnavailable, UsageError
from harness.vocabulary.raised import AlignmentError


def resolved(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return everything about the jobs of one case: of one variant, if it has several."""
    case = jobs[0].case
    sweep = case.asked_sweep
    rows = {job.row.id: job.row for job in jobs}
    return {
        "id": case.id,
        "file": str(case.path),
        "about": case.about,
        "tags": list(case.tags),
        "sweep": {
            "direction": sweep.direction.value,
            "components": list(sweep.components),
            "layers": "all" if sweep.layers is None else list(sweep.layers),
            "positions": site_position(sweep.positions),
            "strategy": sweep.strategy,
            "value": sweep.value,
        },
        "metrics": {name: metric_named(name).unit for name in case.metrics},
        "checks": list(case.checks),
        "tolerance": case.tolerance.model_dump(mode="json"),
        "expect": case.expect.model_dump(mode="json", exclude_defaults=True),
        "jobs": [_job(job) for job in jobs],
        "models": [_model(case, row) for row in rows.values()],
    }


def _job(job: Job) -> dict[str, Any]:
    must, may = job.case.expectation(job.engine)
    file = location_of(job.case.path, job.name, backend())
    return {
        "id": job.id,
        "model": job.row.id,
        "engine": job.engine,
        "metrics": list(metrics_of(job)),
        "must_find": list(must),
        "may_find": list(may),
        "snapshot": str(file) if job.has_snapshot else None,
        "stored": file.exists(),
    }


def _model(case: Case, row: ModelRow) -> dict[str, Any]:
    say(f"loading {row.id}")
    try:
        model = models.load(row)
    except (ModelUnavailable, UsageError) as error:
        return {"id": row.id, "problem": str(error)}
    known: dict[str, Any] = {"id": row.id, "card": asdict(model.card)}
    try:
        questions = questions_of(case, model, case.metrics)
    except UsageError as error:
        return {**known, "problem": str(error)}
    read = [_read(model, *each) for each in zip(case.pairs, questions, strict=True)]
    known |= {"pairs": read} if case.is_averaged else read[0]
    question = questions[0]
    try:
        for each in questions:
            check_question(model, each)
        points = resolve(model, question.sweep)
    except (UsageError, AlignmentError) as error:
        return {**known, "problem": str(error)}
    length = len(question.clean.ids) if question.sweep.positions == "each" else 1
    return {**known, "sites": _sites(model, points), "cells": len(points) * length}


def _read(model: LoadedModel, given: Prompts, question: Question) -> dict[str, Any]:
    """Return a pair of prompts as a model reads it."""
    read = {"tokens": _tokens(question), "remarks": [str(each) for each in remarks(model, given, question)]}
    if question.answers is None:
        return read
    ids = asdict(question.answers).items()
    return {**read, "answers": {name: {"id": token, "text": piece(model.tokenizer, token)} for name, token in ids}}


def _tokens(question: Question) -> list[dict[str, Any]]:
    """Return one entry a position: both tokens, and whether they differ. The shorter prompt ends in nothing."""
    sides = [list(zip(prompt.ids, prompt.texts, strict=True)) for prompt in (question.clean, question.corrupted)]
    return [
        {
            "position": position,
            "clean": None if clean is None else {"id": clean[0], "text": clean[1]},
            "corrupted": None if corrupted is None else {"id": corrupted[0], "text": corrupted[1]},
            "differs": clean is None or corrupted is None or clean[0] != corrupted[0],
        }
        for position, (clean, corrupted) in enumerate(zip_longest(*sides))
    ]


def _sites(model: LoadedModel, points: Sequence[HookPoint]) -> list[dict[str, Any]]:
    paths = {id(module): path for path, module in model.module.named_modules()}
    return [
        {
            "component": point.component,
            "layer": point.layer,
            **({} if point.head is None else {"head": point.head}),
            "side": "input" if point.is_input else "output",
            "module": paths.get(id(point.module), type(point.module).__name__),
        }
        for point in points
    ]
