"""docs/rounding.md: check x mode of the emulated accelerator x what a sound model, engine or case is accused of.

    python tests/emulation/page.py                          run every check under every mode, and print the page
    python tests/emulation/page.py --write                  and keep it as docs/rounding.md
    python tests/emulation/page.py --only diagnose,f16 --mode order     checks and modes whose names hold a word
    python tests/emulation/page.py --keep cells.jsonl       keep each cell when it is there, and do not run kept ones

The whole table takes hours on two cores. Each cell is a process of its own. Nothing here is at fault, so a cell holds
where nobody is accused. Under `flaky` the machine is at fault: a cell that says that the runs of a model are not the
same twice says so rightly.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from io import StringIO
from pathlib import Path

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[1] / "docs" / "rounding.md"
PLAIN = "plain"
MODES = (PLAIN, "order", "rows:1", "rows:4", "rows:16", "flaky:0.01", "flaky:0.001", "flaky:0.0001")
DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
FAMILIES = ("llama", "qwen3", "gemma2", "gpt2", "olmo2")
RIGHTLY = re.compile(r"DIA60[47]|MOD002|is not deterministic")
"""What says that the same question was answered in two ways, which is true under `flaky`."""
MACHINES = re.compile(r"; (stored with|candidate:) .*")
"""What a difference from a snapshot says of two machines and of a file on one of them."""

HEAD = """\
# Rounding of an accelerator

Nobody here has a Mac, so its rounding is emulated (`tests/emulation`). This page is written by
`python tests/emulation/page.py --write`. Rows are checks of models, engines and cases without a fault; columns are
ways to round:

- `order`: products and attention are summed in another order, chosen by the shapes of the inputs, as a GPU chooses a
  kernel by the number of rows;
- `rows:N`: every operation is off by up to N ulp, by the shape of the batch and the column;
- `flaky:P`: a share P of the calls is off by up to an ulp, as on a machine that races.

What is not in the table was not run for this page. A check *holds* where nothing is accused, and *says so* where all
that it says is that the runs of a model differ from each other, which is true of `flaky`. Everything else is a number:
what is accused stands below.
"""

Check = Callable[[str], Iterator[str]]
"""Yields what is accused under a mode."""


def _emulated(mode: str):
    from emulation.accelerator import emulated

    return nullcontext() if mode == PLAIN else emulated(mode)


def _diagnosed(wanted: Callable[[str], bool], mode: str) -> Iterator[str]:
    from harness.diagnosis import diagnose
    from harness.diagnosis.zoo.clean import examine, subjects

    for subject in subjects():
        if wanted(subject.name):
            with _emulated(mode):
                found = examine(subject, diagnose)
            if found:
                yield found


def _laws(rows: Sequence[str], mode: str) -> Iterator[str]:
    from harness.engines import engine_named
    from harness.laws import LAWS
    from harness.laws.conformance.matrix import BROKEN, row_cells
    from harness.laws.conformance.rows import usual_rows

    for row in usual_rows():
        if row.id in rows:
            with _emulated(mode):
                cells = list(row_cells(engine_named("native"), row, list(LAWS.values()), shrink=False))
            yield from (f"{cell.row} {cell.law} {cell.code}: {cell.text}" for cell in cells if cell.status in BROKEN)


def _walked(dtype: str, mode: str) -> Iterator[str]:
    """A sweep that one-pass can walk is walked, and not given up because of rounding."""
    from harness.engines import answer, engine_named
    from harness.laws.conformance.rows import CLEAN, CORRUPTED, HALVES, USUAL, architecture
    from harness.vocabulary import Question, Sweep, Tokens

    clean, corrupted = (Tokens(ids, tuple(map(str, ids))) for ids in (CLEAN, CORRUPTED))
    for name in USUAL if dtype == "float32" else HALVES:
        for component in ("resid_post", "mlp_out", "attn_out"):
            asked = Question(clean, corrupted, Sweep((component,)), ("l2",))
            said = {}
            for each in (PLAIN, mode):
                with _emulated(each):
                    try:
                        said[each] = answer(engine_named("native"), architecture(name, dtype).build(), asked)
                    except Exception as error:  # noqa: BLE001  what cannot be asked at all is not about rounding
                        said[each] = error
            plain, found = said[PLAIN], said[mode]
            if getattr(plain, "strategy", "") == "one-pass" and getattr(found, "strategy", "") != "one-pass":
                yield f"{name} {component}: {getattr(found, 'fallback', found)}"


def _bundled(cases: Sequence[str], mode: str) -> Iterator[str]:
    import tempfile

    from harness.cli import exit_code_of
    from harness.results.json import read

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        chosen = [str(FOLDER.parents[1] / "cases" / f"{name}.case.yaml") for name in cases]
        with _emulated(mode), redirect_stdout(StringIO()):
            exit_code_of(["run", *chosen, "--json", str(file), "-q"])
        result = read(file)
    for job in result.jobs:
        told = [each for each in job.findings if not each.expected and each.severity == "error"]
        yield from (f"{job.id} {each.code}: {each.message}" for each in told)
        if job.status.value != "passed" and not told:
            yield f"{job.id}: {job.status.value}"


def _name_in(*names: str) -> Callable[[str], bool]:
    return lambda name: name in names


def checks() -> dict[str, Check]:
    """Return every check by its name."""
    from harness.laws.conformance.rows import HALVES, USUAL

    found: dict[str, Check] = {}
    for short, dtype in (*DTYPES.items(), ("4bit", "4bit")):
        found[f"diagnose {short}"] = partial(_diagnosed, _name_in(*(f"{each}, {dtype}" for each in FAMILIES)))
    found["diagnose look-alikes"] = partial(_diagnosed, re.compile("(llama|qwen3), (?!float|bfloat|4bit)").match)
    for short in ("f32", "f16", "bf16", "q4"):
        found[f"diagnose smollm2-{short}"] = partial(_diagnosed, _name_in(f"smollm2-135m-{short}"))
    found["laws f32"] = partial(_laws, USUAL)
    for short in ("f16", "bf16"):
        found[f"laws {short}"] = partial(_laws, [f"{name}-{short}" for name in HALVES])
    found["laws ground-truth"] = partial(
        _laws,
        ("dial-mean10-f32", "dial-mean10-f16", "dial-huge-bf16", "circuit-llama-2k-f32", "circuit-qwen3-152k-f16"),
    )
    for short, dtype in DTYPES.items():
        found[f"one-pass {short}"] = partial(_walked, dtype)
    known = ("circuit", "circuit-both-ways", "circuit-grid", "dial", "dial-noising", "gated-circuit")
    found["cases ground-truth"] = partial(_bundled, (*known, "gated-circuit-noising"))
    found["cases other"] = partial(
        _bundled, ("families", "grid", "heads", "ladder", "ladder-bfloat16", "moe", "noising")
    )
    return found


def accused(check: str, mode: str) -> list[object]:
    """Return what is accused, and the seconds it took."""
    began = time.perf_counter()
    found = list(checks()[check](mode))
    return [found, time.perf_counter() - began]


def main(arguments: Sequence[str]) -> int:
    """Print or write the page; 1 where somebody is accused."""
    from emulation.page import accused as in_another_process

    from harness.laws.grid.processes import in_processes

    found = (str(FOLDER.parent), os.environ.get("PYTHONPATH", ""))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, found))  # of the processes below
    names, modes = (_chosen(arguments, option, given) for option, given in (("--only", checks()), ("--mode", MODES)))
    calls = [(name, mode) for name in names for mode in modes]
    kept = Path(arguments[arguments.index("--keep") + 1]) if "--keep" in arguments else Path(os.devnull)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    seen: dict[tuple[str, str], list[str]] = {(name, mode): said for name, mode, said in map(json.loads, lines)}
    left = [call for call in calls if call not in seen]
    for call, (said, lost) in zip(left, in_processes(in_another_process, left, workers=1, seconds=3600), strict=True):
        found, seconds = said or ([lost], 0.0)
        seen[call] = found
        if said:
            with kept.open("a", encoding="utf-8") as file:
                print(json.dumps([*call, found]), file=file)
        print(f"{call[0]:28} {call[1]:14} {seconds:6.0f} s  {len(found)}", *found[:9], sep="\n    ", file=sys.stderr)
    page = text(names, modes, seen)
    if "--write" in arguments:
        PAGE.write_text(page, encoding="utf-8")
    else:
        print(page)
    return int(any(_wrong(seen[call]) for call in calls))


def _chosen(arguments: Sequence[str], option: str, names: Mapping[str, object] | Sequence[str]) -> list[str]:
    words = arguments[arguments.index(option) + 1].split(",") if option in arguments else [""]
    return [name for name in names if any(word in name for word in words)]


def _wrong(found: Sequence[str]) -> list[str]:
    return [each for each in found if not RIGHTLY.search(each)]


def text(names: Sequence[str], modes: Sequence[str], seen: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Return the page for what was seen."""
    from harness.laws.grid.table import GridCell, GridTable, numbered

    def cell(found: Sequence[str], mode: str) -> GridCell:
        wrong = _wrong(found) if mode.startswith("flaky") else list(found)
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
            said = MACHINES.sub("", " ".join(wrong[0].split()))
            return GridCell(reason=said.replace("|", "\\|") + more)
        return GridCell("says so" if found else "holds", holds=True)

    rows = {name: {mode: cell(seen[name, mode], mode) for mode in modes} for name in names}
    numbers = numbered(rows.values())
    grid = GridTable(rows, {mode: mode for mode in modes}, numbers, corner="check", of=len(rows))
    below = [f"{number}. {reason}" for reason, number in numbers.items()]
    return "\n".join([HEAD, *grid.markdown(), "", *below]).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER.parent))
    sys.exit(main(sys.argv[1:]))
