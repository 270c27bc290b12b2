"""What `--help` shows of a command: its options in sections, and an example to start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeGuard

import click

EXAMPLES: Mapping[str, Sequence[str]] = {
    "run": (
        "harness run bundled:dial --metric l2",
        "harness run cases -n auto --strict -o report.html",
    ),
    "diagnose": (
        'harness diagnose -m ./model --prompt "The capital of France is"',
        'harness diagnose -m smollm2-135m-f16 --clean "Paris is in" --corrupted "Rome is in"',
    ),
    "patch": ("harness patch -m circuit-llama-2k-f32 --ids --clean 1,3,2,5 --corrupted 1,4,2,5 -c mlp_out",),
    "explain": ("harness explain FIN004", "harness explain 'all recoveries nan'"),
    "init": ("harness init", "harness init --engine mylib:patch"),
    "list": ("harness list bundled --model 'dial-*'",),
    "show": ("harness show bundled:dial --model dial-tiny-f32",),
    "validate": ("harness validate cases",),
    "snapshots status": ("harness snapshots status bundled",),
    "snapshots update": ("harness snapshots update cases --missing",),
    "snapshots prune": ("harness snapshots prune cases",),
    "snapshots review": ("harness snapshots review cases",),
    "conformance": (
        "harness conformance -e mylib:patch --allow-code --row llama",
        "harness conformance -e mylib:patch --allow-code --known known.yaml -o laws.md",
    ),
    "replay": ("harness replay qwen3-30b-report", "pbpaste | harness replay -"),
    "models list": ("harness models list",),
    "models fetch": ("harness models fetch smollm2-135m-f16",),
    "models architectures": ("harness models architectures --only llama",),
    "models equality": ("harness models equality --only llama",),
    "models reference": ("harness models reference --only llama",),
    "zoo list": ("harness zoo list",),
    "zoo run": ("harness zoo run --only masked-row",),
    "compare": ("harness compare before.json after.json --fail-on recovery=0.5,status",),
    "report": ("harness report result.json -o report.html",),
    "merge": ("harness merge 1.json 2.json -o report.html",),
    "doctor": ("harness doctor", "harness doctor --report machine.json"),
    "schema": ("harness schema case > case.schema.json",),
    "completion": ('eval "$(harness completion zsh)"',),
}
"""Command -> lines to start from, which run as they are where their files are there."""

SECTIONS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "run": {
        "Which jobs": (
            "models", "engines", "tags", "metrics", "components", "also", "ids", "keyword", "marks", "failed",
            "failed_in", "shard", "tables", "allow_code",
        ),
        "How they run": (
            "workers", "device", "require_device", "memory", "prove", "dequantise", "job_timeout", "exitfirst",
            "download", "require_models",
        ),
        "What fails": ("strict", "known", "write_known", "min_jobs"),
        "Snapshots": ("snapshot_update", "results"),
        "What is written": ("json_file", "junit", "outputs", "annotations"),
    },
    "diagnose": {
        "The model": ("model", "tables", "download", "dtype", "before"),
        "The prompts": (
            "prompt", "clean", "corrupted", "ids", "logits", "numbers",
        ),
        "The patching": ("component", "metric", "answer", "wrong", "engine", "allow_code"),
        "Other runs to hold it against": (
            "compare_compile", "compare_device", "lengths", "repeat", "reference", "device",
        ),
        "What is written": ("json_file", "plot_file", "case_file"),
    },
    "patch": {
        "The model": ("name", "tables", "download"),
        "The prompts": ("clean", "corrupted", "ids", "chat", "no_special_tokens", "answer", "wrong", "first_token"),
        "The sweep": ("components", "metrics", "layers", "direction", "positions", "value", "mean_of"),
        "How it runs": ("engine", "allow_code", "strategy", "memory", "prove", "dequantise", "device"),
        "What is written": ("plot",),
    },
    "conformance": {
        "The engine": ("name", "allow_code"),
        "What is asked": (
            "every", "names", "only", "no_rows", "no_laws", "clean", "corrupted", "ids", "layers", "device",
        ),
        "What fails": ("strict", "known", "write_known"),
        "What is written": ("json_file", "junit", "output"),
    },
}  # fmt: skip
"""Command -> title -> parameters. What is in no section stands at the end."""


class Helped(click.Command):
    """A command whose help has sections and examples."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--json cases`, where a path follows that is no JSON file, as `--json - cases`."""
        for index, word in reversed([*enumerate(args[:-1])]):
            follows = args[index + 1]
            if word == "--json" and follows != "-" and not follows.endswith(".json") and self._prints_json:
                args.insert(index + 1, "-")
        return super().parse_args(ctx, args)

    @property
    def _prints_json(self) -> bool:
        return any("--json" in param.opts and param.flag_value == "-" for param in self.params if _is_option(param))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for title, names in SECTIONS.get(_path(ctx), {}).items():
            _write(title, [left.pop(name) for name in names if name in left], ctx, formatter)
        _write("Other options" if _path(ctx) in SECTIONS else "Options", left.values(), ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if lines := EXAMPLES.get(_path(ctx)):
            with formatter.section("Examples" if len(lines) > 1 else "Example"):
                for line in lines:
                    # A command is copied: it is never folded.
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _is_option(param: click.Parameter) -> TypeGuard[click.Option]:
    return isinstance(param, click.Option)


def _path(ctx: click.Context) -> str:
    return ctx.command_path.partition(" ")[2]


def _write(title: str, params: Iterable[click.Parameter], ctx: click.Context, formatter: click.HelpFormatter) -> None:
    records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)
