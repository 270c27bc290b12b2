"""Laws: relations that every correct patcher obeys on every model, with no oracle needed."""

from harness.laws.table import LAWS, Law, Situation

__all__ = ["LAWS", "Law", "Situation"]
