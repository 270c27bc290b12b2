"""What `make check` asks of the documentation: links resolve, YAML is a valid case, Python compiles, commands exist.

What is generated from the code (the schema of results, the list of findings) is what the code says.
"""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from blocks import blocks

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(r"^(?:\$ )?((?:\S*/)?(make|harness) .*)", re.MULTILINE)


def pages() -> list[Path]:
    built = ROOT / "docs" / "_build"
    return sorted(page for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if built not in page.parents)


def broken_links(page: Path, text: str) -> Iterator[str]:
    for target in LINK.findall(text):
        if "://" not in target and not (page.parent / target).exists():
            yield f"link to {target}, which does not exist"


def bad_blocks(text: str) -> Iterator[str]:
    tables = [block.body for block in blocks(text) if block.body.startswith("models:\n")]
    named = ((Path(block.marks.get("file", "")), block.body) for block in blocks(text))
    pairs = {file.name: body for file, body in named if file.suffix in (".csv", ".jsonl")}
    for block in blocks(text):
        yield from block.wrong_marks()
        if block.language == "python":
            yield from _python(block.body)
        elif block.language == "yaml" and "prompts:" in block.body:
            yield from _case(block.body, tables, pairs)
        elif block.is_commands and block.exists_here:
            yield from _commands(block.body)


def _python(body: str) -> Iterator[str]:
    try:
        compile(body, "example", "exec")
    except SyntaxError as error:
        yield f"Python example does not compile: {error}"


def _case(body: str, tables: list[str], pairs: Mapping[str, str]) -> Iterator[str]:
    """Yield what is wrong with a case, whose models are the bundled ones and those of the page's own tables, and whose
    files of pairs are the page's."""
    from harness.jobs.planning import jobs_in
    from harness.jobs.preflight import inspect
    from harness.models import load_table
    from harness.vocabulary.errors import HarnessError

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "example.case.yaml")
        file.write_text(body, encoding="utf-8")
        for own, text in pairs.items():
            file.with_name(own).write_text(text, encoding="utf-8")
        beside = [file.with_name(f"{number}.yaml") for number, _ in enumerate(tables)]
        for name, table in zip(beside, tables, strict=True):
            name.write_text(table, encoding="utf-8")
        try:
            for problem in inspect(jobs_in(file, load_table(beside), allow_code=True)).problems:
                yield f"case file is not valid: {problem}"
        except HarnessError as error:
            yield f"case file is not valid: {error}"


def _commands(body: str) -> Iterator[str]:
    targets = re.findall(r"^([a-z./-]+|\$\(VENV\)/installed):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for line, program in COMMAND.findall(body.replace("\\\n", " ")):
        if program == "harness":
            yield from wrong_command(line)
        elif (word := line.split()[1]) not in targets and word != ".venv/installed" and "=" not in word:
            yield f"`make {word}` does not exist"


def wrong_command(line: str) -> Iterator[str]:
    """Yield what is wrong with a `harness` command line: a command or an option that does not exist."""
    import click

    from harness.cli import cli

    words = shlex.split(re.split(r"\s(?:\|\|?|&&|;|>>?|2>)", line)[0], comments=True)[1:]
    group: click.Command | None = cli
    # Click remembers a command's help option from the first context it meets.
    context = click.Context(cli, help_option_names=["-h", "--help"])
    try:
        while isinstance(group, click.Group) and words and not words[0].startswith("-"):
            group = group.get_command(context, words[0])
            if group is None:
                raise click.UsageError(f"{words[0]!r} is not a command")
            context, words = click.Context(group, info_name=words[0], parent=context), words[1:]
        if group is not None and not isinstance(group, click.Group):
            group.make_parser(context).parse_args([word for word in words if word not in ("-h", "--help")])
    except click.UsageError as error:
        yield f"`{line.strip()}`: {error.format_message()}"


def stale_schemas(write: bool) -> Iterator[str]:
    """The published schemas are generated: `python docs/check.py --write`."""
    from harness.cli.schema_command import SCHEMAS, text_of

    for name in SCHEMAS:
        yield from stale(ROOT / "docs" / f"{name}.schema.json", text_of(name), write)


def stale_keys(write: bool) -> Iterator[str]:
    """The tables of the case language in docs/cases.md are generated, and every part of it has one."""
    from case_reference import filled, missing

    file = ROOT / "docs" / "cases.md"
    page = file.read_text(encoding="utf-8")
    yield from (f"{file.relative_to(ROOT)}: {fault}" for fault in missing(page))
    yield from stale(file, filled(page), write)


def stale(file: Path, text: str, write: bool) -> Iterator[str]:
    if write:
        file.write_text(text, encoding="utf-8")
    elif not file.exists() or file.read_text(encoding="utf-8") != text:
        yield f"{file.relative_to(ROOT)} is not what the code says; run `python docs/check.py --write`"


def stale_index(write: bool) -> Iterator[str]:
    """The list of codes in docs/findings/README.md is generated, below its last comment."""
    from harness.vocabulary.findings import FINDINGS

    file = ROOT / "docs" / "findings" / "README.md"
    written = file.read_text(encoding="utf-8")
    kept = written[: written.rindex("-->") + len("-->")]
    rows = [
        f"| [{code}]({code}.md) | {kind.severity} | {kind.subject} | {kind.title} |"
        for code, kind in sorted(FINDINGS.items())
    ]
    text = "\n".join([kept, "", "| code | severity | subject | what it says |", "|---|---|---|---|", *rows, ""])
    yield from stale(file, text, write)


def stale_weights(write: bool) -> Iterator[str]:
    """Between its title and its first section, the page of a code says what the code means for a verdict."""
    from harness.vocabulary.findings import FINDINGS

    for code, kind in FINDINGS.items():
        file = ROOT / "docs" / "findings" / f"{code}.md"
        title, mark, rest = file.read_text(encoding="utf-8").partition("\n")
        sections = rest[rest.index("## ") :]
        yield from stale(file, f"{title}{mark}\n{kind.weight}\n\n{sections}", write)


def main() -> int:
    write = "--write" in sys.argv
    faults = [*stale_schemas(write), *stale_index(write), *stale_weights(write), *stale_keys(write)]
    for page in pages():
        text = page.read_text(encoding="utf-8")
        faults += [f"{page.relative_to(ROOT)}: {fault}" for fault in (*broken_links(page, text), *bad_blocks(text))]
    print("\n".join(faults) or f"{len(pages())} pages of documentation are in order")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
