"""From the first suspect of a trail to its cause, with the evidence for it."""
