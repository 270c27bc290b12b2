"""Jobs: one case on one model through one engine; which are chosen, what they would do, and running them.

run         planning and running one job
narrowing   the part of a case that `--metric` and `--component` choose
preview     what a case resolves to, for `harness show`
preflight   what can be known to be wrong without loading a model, for `harness validate`
"""
