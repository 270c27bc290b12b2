"""A result whose every text tries to break out of the report it is put into."""

from __future__ import annotations

from example_results import curve, grid, job, run

from harness.vocabulary import Dequantised, Finding, ModelCard, RunResult, Site, Status, Sweep, Tokens

SCRIPT = "<script>document.title='broken'</script>"
ATTRIBUTE = '"><img src=x onerror="document.title=1">'
MARKDOWN = "| ` ``` ** [x](y) \n# title"


def hostile() -> RunResult:
    """Return a run of four jobs: failed with every kind of picture, passed, skipped, crashed."""
    text = f"{SCRIPT} {ATTRIBUTE} {MARKDOWN}"
    failed = job(
        "failed",
        status=Status.FAILED,
        about=text,
        tags=(SCRIPT,),
        card=ModelCard(text, "synthetic", text, 4, 2048, "float16"),
        clean=Tokens((1, 2, 3), (SCRIPT, " is", ATTRIBUTE)),
        corrupted=Tokens((1, 4), ("\n", "\u202e</td>")),
        sweep=Sweep((text, "mlp_out")),
        strategy="stepwise",
        fallback=text,
        dequantised=Dequantised(4096, refused=text),
        curves=(
            curve("nan", "inf", "undefined", "zero-baseline", baseline="inf"),
            curve(10.0, -20.0, 130.0, 50.0, metric="mse"),
            curve(1.0, 2.0, 3.0, 4.0, component=text),
            grid([[1.0, -2.0, "nan"], [0.0, 55.0, 100.0]]),
        ),
        findings=(
            Finding("FIN004", text, metric="l2"),
            *(Finding("FIN005", text, Site(text, layer), "l2") for layer in range(5)),
            Finding("SNP002", text, expected=True),
        ),
        timings={"load_s": 0.5, "sweep_s": 1.25},
    )
    return run(
        failed,
        job("passed", curves=(curve(5.0, 95.0),), timings={"sweep_s": 2.0}),
        job("skipped", status=Status.SKIPPED, reason=text),
        job("crashed", status=Status.CRASHED, reason=text),
        verdict=Status.CRASHED,
        exit_code=3,
        packages={"mlx": text},
    )
