"""What is fetched once, verified, and kept in a cache."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

SHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def cache_folder() -> Path:
    """Where downloads are kept: what `GPTLIB_CACHE` says, else the user's cache folder."""
    if chosen := os.environ.get("GPTLIB_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gptlib"
    return Path.home() / ".cache" / "gptlib"


def tinyshakespeare() -> Path:
    """The file with the plays, downloaded if it is not there.

    Raises:
        ValueError: The file is another one.
        ConnectionError: The download fails.
    """
    file = cache_folder() / "tinyshakespeare" / "input.txt"
    if not file.exists():
        _download(SHAKESPEARE_URL, file, SHAKESPEARE_SHA256)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != SHAKESPEARE_SHA256:
        raise ValueError(
            f"{file} is not the text expected (SHA-256 {found[:12]}…, expected {SHAKESPEARE_SHA256[:12]}…); move it "
            "away, and the next call downloads it again"
        )
    return file


def _download(url: str, file: Path, sha256: str) -> None:
    """Download to a temporary file beside `file`, and give it that name only when it is whole."""
    import urllib.request
    from http.client import HTTPException

    from tqdm.auto import tqdm

    unfinished = file.with_name(f"{file.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.touch()
    except OSError as error:
        raise PermissionError(
            f"{file.parent} cannot be written ({error.strerror}); set GPTLIB_CACHE to a folder that can"
        ) from None
    try:
        with unfinished.open("wb") as out, urllib.request.urlopen(url, timeout=30) as response:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=file.parent.name) as progress:
                while block := response.read(64 * 1024):
                    out.write(block)
                    digest.update(block)
                    progress.update(len(block))
                if progress.n < size:
                    raise ConnectionError(f"the connection ended after {progress.n:,} of {size:,} bytes")
        if digest.hexdigest() != sha256:
            raise ValueError(
                f"{url} sent another file than expected (SHA-256 {digest.hexdigest()[:12]}…, expected {sha256[:12]}…); "
                f"try again in another network, or put the right file at {file}"
            )
        os.replace(unfinished, file)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ConnectionError(
            f"{url} could not be downloaded ({reason}); put the file at {file} by hand, or use the corpus tales or "
            "python, which need no network"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)
