"""Which metric for which vocabulary: what was published, and what is true of it.

The published rule goes by the size of the vocabulary. What overflows goes by the norm and the dtype (`baselines.py`),
and here nothing does; so the rule is given for those who look for it, with the truth beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.metrics.baselines import NORM_LIMITS
from harness.vocabulary.errors import UnknownName, UsageError


@dataclass(frozen=True)
class Recommendation:
    """What was published for a vocabulary size, and what is true of it."""

    metrics: tuple[str, ...]
    truth: str

    def __str__(self) -> str:
        return f"{' or '.join(self.metrics)}. {self.truth}"


def recommend_metric(vocab_size: int, dtype: str = "float16") -> Recommendation:
    """Return the published recommendation for a vocabulary size, together with what is really true of it.

    Under 50,000 tokens l2, up to 100,000 l2 or cosine, above that mse or cosine. Raises UsageError for a size below 2
    and UnknownName for a dtype that is none of float32, float16, bfloat16.
    """
    if not isinstance(vocab_size, int) or vocab_size < 2:
        raise UsageError(f"vocab_size {vocab_size!r} is no vocabulary; give a whole number, 2 or more")
    name = str(dtype).removeprefix("mlx.core.")
    if name not in NORM_LIMITS:
        raise UnknownName("dtype", name, NORM_LIMITS)
    metrics = ("l2",) if vocab_size < 50_000 else ("l2", "cosine") if vocab_size <= 100_000 else ("mse", "cosine")
    always = "In this harness every metric is float64 on the host, so the choice is about meaning, not about overflow."
    if name != "float16":
        return Recommendation(metrics, f"{name} sums do not overflow here, but they lose digits. {always}")
    rms = NORM_LIMITS[name] / vocab_size**0.5
    return Recommendation(
        metrics,
        f"Computed in float16, an L2 overflows when the true distance reaches 255.97, at any vocabulary: here at a "
        f"root-mean-square difference of {rms:.3g} per logit. mse in float16 overflows as well. {always}",
    )
