"""Which version of somebody's code runs: of the installed package, or of the git checkout that it comes from."""

from __future__ import annotations

import importlib.metadata
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Origin:
    """What is known of the code of a module; each is None where nobody says it."""

    version: str | None = None
    revision: str | None = None
    """The git commit, in full."""
    branch: str | None = None


def origin_of(module: ModuleType | None) -> Origin:
    """Return the version of a module's package, and the commit and branch of its checkout, or as pip noted them."""
    name = module.__name__.partition(".")[0] if module is not None else "__main__"
    version = getattr(sys.modules.get(name), "__version__", None)
    noted = _noted_by_pip(name)
    file = getattr(module, "__file__", None)
    revision, branch = _checked_out(Path(file)) if file else (None, None)
    return Origin(version if isinstance(version, str) else noted.version, revision or noted.revision, branch)


def project_text(folder: Path) -> str:
    """Return a folder's name with the commit and the branch of its checkout: `mylib at 2935fbf12345 (main)`."""
    revision, branch = _checked_out(folder / "any")
    at = f" at {revision[:12]}" if revision else ""
    return f"{folder.resolve().name}{at}" + (f" ({branch})" if branch else "")


def _noted_by_pip(name: str) -> Origin:
    try:
        package = importlib.metadata.distribution(name)
        source = json.loads(package.read_text("direct_url.json") or "{}")
        commit = source.get("vcs_info", {}).get("commit_id")
        return Origin(package.version, commit if isinstance(commit, str) else None)
    except (importlib.metadata.PackageNotFoundError, OSError, ValueError, AttributeError):
        return Origin()


def _checked_out(file: Path) -> tuple[str | None, str | None]:
    """Return the commit and the branch of the checkout a file is in; what is installed into one is not of it."""
    for folder in file.resolve().parents:
        if folder.name in _INSTALLED:
            break
        git = folder / ".git"
        try:
            if git.is_file():  # a worktree, or a submodule
                git = folder / git.read_text(encoding="utf-8").removeprefix("gitdir: ").strip()
                return _head(git)
            if git.is_dir():
                return _head(git)
        except (OSError, UnicodeDecodeError):
            break
    return None, None


def _head(git: Path) -> tuple[str | None, str | None]:
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head or None, None
    ref = head.removeprefix("ref: ")
    common = git / "commondir"
    shared = git / common.read_text(encoding="utf-8").strip() if common.is_file() else git
    loose, packed = shared / ref, shared / "packed-refs"
    if loose.is_file():
        commit = loose.read_text(encoding="utf-8").strip()
    else:
        lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
        commit = next((line.split(" ")[0] for line in lines if line.endswith(f" {ref}")), "")
    return commit or None, ref.removeprefix("refs/heads/")
