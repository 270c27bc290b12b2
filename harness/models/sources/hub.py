"""Models on a model hub, at a pinned revision.

The snapshot is looked up in the hub's own local cache first; the network is touched only when a download is allowed.
Python files are neither fetched nor run unless the row says `trust_remote_code`; then they run with `--allow-code`.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from harness.models.loaded import LoadedModel
from harness.models.sources.folder import load_folder, one_line, problem
from harness.models.spec import HubRow
from harness.models.table import bundled
from harness.support.progress import Listener, listener
from harness.vocabulary.errors import ModelUnavailable, UsageError

# What mlx-lm reads of a repository, without Python and without weights in other formats.
PATTERNS = ["*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "*.txt", "*.jsonl", "*.jinja"]
# Seconds for the first answer; an unreachable hub must not hold up a run.
PATIENCE = 10


def load(row: HubRow, *, download: bool = False, allow_code: bool = False) -> LoadedModel:
    """Load the snapshot; raises ModelUnavailable if it is not cached and may not, or cannot, be downloaded.

    Raises UsageError for a row that trusts the model's own code where its reader has not allowed any.
    """
    if row.trust_remote_code and not allow_code:
        raise UsageError(
            f"{row.id}: trust_remote_code runs Python of {row.repo}, and only with --allow-code "
            "(from Python allow_code=True); nothing was loaded"
        )
    folder = cached(row)
    if folder is None:
        if not download:
            raise ModelUnavailable(
                f"{row.id}: {row.repo} at {row.revision} is not in the hub's cache; pass --download{_fetching(row)}"
            )
        folder = fetch(row)
    return load_folder(folder, row.id, "hub", row.dtype, trust_remote_code=row.trust_remote_code)


def _fetching(row: HubRow) -> str:
    """Return the command that fetches the model, in words; none for a row of a table that the command must be given."""
    known = row.id if row.id in bundled() else row.repo if row.revision == "main" else ""
    return f", or run `harness models fetch {known}`" if known else ""


def cached(row: HubRow) -> Path | None:
    """Return the snapshot's folder if it is on this machine and complete enough to load."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        folder = Path(
            snapshot_download(row.repo, revision=row.revision, allow_patterns=_patterns(row), local_files_only=True)
        )
    except (OSError, ValueError, HfHubHTTPError, HFValidationError):
        return None
    return folder if problem(folder) is None else None


def fetch(row: HubRow) -> Path:
    """Download the snapshot and return its folder; raises ModelUnavailable with the cause in one line."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            row.repo, revision=row.revision, allow_patterns=_patterns(row), etag_timeout=PATIENCE, max_workers=4,
            tqdm_class=_bars(row.repo, listener()),
        )  # fmt: skip
        return Path(folder)
    except Exception as error:  # whatever a network stack raises means the same here: not available
        raise ModelUnavailable(
            f"{row.id}: {row.repo} at {row.revision} cannot be downloaded: {type(error).__name__}: {one_line(error)}"
        ) from error


def _bars(repo: str, tell: Listener) -> type:
    """Return what the hub's library takes for progress bars: the bytes are told, and nothing is drawn."""
    from tqdm.auto import tqdm  # type: ignore[import-untyped]  # has no types

    class Told(tqdm):  # type: ignore[misc]  # has no types
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **{**named, "file": io.StringIO(), "disable": False})

        def display(self, *_: Any, **__: Any) -> bool:
            if self.unit == "B":
                tell(f"fetching {repo}", int(self.n), int(self.total or 0))
            return True

    return Told


def _patterns(row: HubRow) -> list[str]:
    return [*PATTERNS, "*.py"] if row.trust_remote_code else PATTERNS
