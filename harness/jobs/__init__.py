"""Jobs: one case on one model through one engine; which are chosen, what they would do, and running them.

selection   the one table of filters, and what `harness run` hands to pytest
case_files  the case files that are meant by paths, or by none
planning    from a case to its jobs
choosing    from a selection to its jobs
narrowing   the part of a case that `--metric` and `--component` choose
run         one job, to its verdict
preview     what a case resolves to, for `harness show`
preflight   what can be known to be wrong without loading a model, for `harness validate`
"""
