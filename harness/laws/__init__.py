"""Laws: relations that every correct patcher obeys on every model, with no oracle needed.

table.py       the laws by name, and who is asked
runs.py        what is recorded and put back: bare, traced and patched runs
own_taps.py    the runs of our own taps on a job's model
engine_runs.py the runs of an engine seen from outside
compared.py    two sides that a law says are the same
answers.py     what an engine answers, whoever it is: scaled logits, another order of layers
in_place.py    the same, on a model of our own that overwrites its activations
conduct.py     what only an engine can be asked, from outside: names, lengths, closed forms
afterwards.py  what an engine leaves behind: after an answer, an exception, Ctrl-C
"""

from harness.laws.situation import Ask, Situation
from harness.laws.table import AFTER, FIRST, LAWS, Law

__all__ = ["AFTER", "FIRST", "LAWS", "Ask", "Law", "Situation"]
