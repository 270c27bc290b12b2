"""The reference table: how far mlx-lm is from another implementation of the same folder, on every architecture.

A small model is built and saved by transformers and loaded by mlx-lm, as every published folder is. MLX runs it in
float32, transformers in float64. A cell is the largest difference of last-token logits as a share of the largest logit,
or, for a component, of recoveries in points. The laws cannot see what this shows: they hold of a wrong model too.
"""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.engines import Engine, answer, engine_named
from harness.intercept import forward
from harness.intercept.hookpoints import layers_with
from harness.laws.architectures.equality import CLEAN, CORRUPTED
from harness.metrics.tolerances import Work, recovery_tolerance, relative_difference, row_tolerance
from harness.models import saved
from harness.models.loaded import LoadedModel
from harness.models.sources.folder import load_folder
from harness.vocabulary import Answer, Direction, Positions, Question, Sweep, Tokens
from harness.vocabulary.errors import EngineUnavailable, HarnessError, UsageError, described

REFERENCE = "transformers"
LOGITS, AS_SAVED = "logits", "as saved"
COMPONENTS = ("resid_pre", "attn_out", "mlp_out", "resid_post", "z")
COLUMNS: Mapping[str, str] = {
    LOGITS: "the largest difference of logits / the largest logit; `config.json` has the keys that folders were "
    "published with before transformers 5, `rope_theta` among them",
    AS_SAVED: "the same where `config.json` is left as transformers 5 writes it, with `rope_parameters` alone; where "
    "only this is bold, mlx-lm's class does not read them and rotates with a base or a share of its own",
    **{
        component: f"the largest difference of {component}'s l2 recoveries, in points: denoising at all positions, "
        "noising at two"
        for component in COMPONENTS
    },
}
KNOWN: Mapping[str, str] = {
    "ernie4_5_moe": "mlx-lm's `sanitize` drops `e_score_correction_bias`, which transformers adds to the scores by "
    "which experts are chosen; transformers is right, the weight is in the folder",
    "gemma": "mlx-lm reads no activation and calls `nn.gelu`, the exact GELU; transformers takes the tanh one, for a "
    "`hidden_act` of `gelu` as well, which it calls a legacy value; transformers is right",
    "gemma2": "mlx-lm reads no `sliding_window`; transformers has one in every second layer, from the first; "
    "transformers is right. Seen on prompts longer than the window: 4 tokens here, 4,096 as released",
    "glm": "mlx-lm reads no `partial_rotary_factor` and rotates the whole head, `nn.RoPE(dims=self.head_dim)`; "
    "transformers is right",
    "gpt_bigcode": "mlx-lm reads no `activation_function` and calls `nn.gelu`, the exact GELU; transformers is right "
    "where a folder says `gelu_pytorch_tanh`, as here; they agree where it says `gelu`",
    "gpt_neox": "mlx-lm reads no `hidden_act` and calls `nn.gelu_approx`, the tanh GELU; transformers is right where a "
    "folder says `gelu`, as here; they agree where it says `gelu_fast`",
    "jamba": "mlx-lm takes the softmax over the chosen experts, so that their weights sum to 1; transformers takes it "
    "over all of them and leaves the chosen ones as they are; transformers is right, whose class is AI21's",
    "nemotron_h": "transformers bounds the step of a state space by `time_step_min` and reads no `time_step_limit`, "
    "mlx-lm the other way round; the configuration has both, and the two do not tell which is right",
    "starcoder2": "mlx-lm reads no `hidden_act` and calls `nn.gelu`, the exact GELU; transformers is right where a "
    "folder says `gelu_pytorch_tanh`, as here",
}
"""Architectures that mlx-lm computes otherwise, and how: the logits must be off by more than rounding."""
_TIE = (
    "`mlp_out` only, one cell: two tokens' index scores are both 0 after the ReLU, and tie for the last of the "
    "`index_topk` tokens that are attended to; mlx-lm keeps one and transformers the other, and either is right"
)
TIES: Mapping[str, str] = {"deepseek_v32": _TIE, "glm_moe_dsa": _TIE}
"""Architectures whose components may be apart, though each implementation is right."""
_SWEEPS: tuple[tuple[Direction, Positions], ...] = (
    (Direction.DENOISING, "all"),
    (Direction.NOISING, (1, -2)),
)
SAME = "the same folder"
NOT_RUN = "-"


def row_of(architecture: str) -> dict[str, str]:
    """Return column -> a difference, `-`, or the reason why there is none."""
    with tempfile.TemporaryDirectory(prefix="harness-reference-") as scratch:
        folder = Path(scratch, "model")
        try:
            reference = engine_named(REFERENCE)
            saved.save(architecture, folder)
            cells = {AS_SAVED: _difference(architecture, folder, reference)}
            changed = saved.publish(folder)
            cells[LOGITS] = _difference(architecture, folder, reference) if changed else cells[AS_SAVED]
            if not changed:
                cells[AS_SAVED] = SAME
            return {name: cells.get(name, NOT_RUN) for name in COLUMNS} | _components(
                architecture, folder, reference, cells[LOGITS]
            )
        except HarnessError as error:
            return dict.fromkeys(COLUMNS, NOT_RUN) | {LOGITS: str(error)}


def _difference(architecture: str, folder: Path, reference: Engine) -> str:
    return _figure(lambda: _logits_apart(architecture, folder, reference), ".1e")


def _logits_apart(architecture: str, folder: Path, reference: Engine) -> float:
    model = load_folder(folder, architecture, "path", "float32")
    sweep = Sweep(("resid_post",), (0,))
    walked = reference.walk(model, _question(sweep))
    pairs = ((CLEAN, walked.clean), (CORRUPTED, walked.corrupted))
    return max(relative_difference(row, forward(model, ids)) for ids, row in pairs)


def _components(architecture: str, folder: Path, reference: Engine, logits: str) -> dict[str, str]:
    if not is_figure(logits):
        return {}
    model = load_folder(folder, architecture, "path", "float32")
    having = {name: tuple(layers_with(model, name)) for name in COMPONENTS}
    return {
        name: _figure(lambda name=name: _points_apart(model, name, having[name], reference), ".1e")  # type: ignore[misc]
        for name in COMPONENTS
        if having[name]
    }


def _points_apart(model: LoadedModel, component: str, layers: tuple[int, ...], reference: Engine) -> float:
    native = engine_named("native")
    asked = (
        _question(Sweep((component,), layers, direction, positions, "stepwise")) for direction, positions in _SWEEPS
    )
    return max(_apart(answer(native, model, question), answer(reference, model, question)) for question in asked)


def _apart(ours: Answer, theirs: Answer) -> float:
    """Return the largest difference of two answers' recoveries in points; inf where only one has a value."""
    pairs = (pair for one, other in zip(ours.curves, theirs.curves, strict=True) for pair in one.paired(other))
    return max(
        (0.0 if a is b else math.inf) if a is None or b is None else abs(a - b)
        for a, b in ((one.recovery.value, other.recovery.value) for one, other in pairs)
    )


def _question(sweep: Sweep) -> Question:
    clean, corrupted = (Tokens(ids, tuple(map(str, ids))) for ids in (CLEAN, CORRUPTED))
    return Question(clean, corrupted, sweep, ("l2",))


def _figure(measure: Callable[[], float], form: str) -> str:
    try:
        return format(measure(), form)
    except (UsageError, EngineUnavailable) as error:
        said = str(error)
    except Exception as error:  # noqa: BLE001  whatever a foreign forward pass raises is the reason
        said = f"not run: {described(error)}"
    return re.sub(r"\S*harness-reference-\S+?/model", "the folder", " ".join(said.split()))


def is_figure(cell: str) -> bool:
    """Return whether a cell holds a difference."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def within(column: str, cell: str) -> bool:
    """Return whether a difference is rounding."""
    if column in (LOGITS, AS_SAVED):
        return float(cell) <= row_tolerance(Work.OTHER_CODE, "float32")
    return float(cell) <= recovery_tolerance(Work.OTHER_CODE, "float32")
