"""What a check may look at."""

from __future__ import annotations

from dataclasses import dataclass

from harness.casefile import Case
from harness.engines import Engine
from harness.models.loaded import LoadedModel
from harness.vocabulary import Answer, Question


@dataclass(frozen=True)
class Evidence:
    """A job after its engine has answered."""

    case: Case
    model: LoadedModel
    engine: Engine
    question: Question
    answer: Answer
