"""Laws: relations that every correct patcher obeys on every model, with no oracle needed.

runs.py       what is recorded and put back: bare, traced and patched logits
answers.py    what an engine answers, whoever it is: scaled logits, another order of layers
in_place.py   the same, on a model of our own that overwrites its activations
"""

from harness.laws.situation import Ask, Law, Situation
from harness.laws.table import LAWS

__all__ = ["LAWS", "Ask", "Law", "Situation"]
