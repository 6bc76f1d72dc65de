"""Where a model's files are: a folder, or the Hub read without downloading weights.

Both answer the same three questions, so a model has the same facts wherever it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evomerge.foundations.errors import ModelError, nearest
from evomerge.foundations.reading import SMALL, is_file, is_folder, listed, opened, read_bytes
from evomerge.models.facts import WEIGHT_INDEX
from evomerge.models.model_folder import regular_files, shards_in

if TYPE_CHECKING:
    from huggingface_hub import HfApi

TIMEOUT_S = 20.0  # for one answer of the Hub


class Repository(Protocol):
    """A model's files."""

    @property
    def folder(self) -> Path | None:
        """Where they are; None on the Hub."""

    @property
    def files(self) -> Mapping[str, int]:
        """File name -> bytes, of all files at the top."""

    def read(self, name: str, most: int = SMALL) -> bytes:
        """A file of at most so many bytes.

        Raises:
            OSError: it cannot be read.
        """

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file, fewer at its end.

        Raises:
            OSError: it cannot be read.
        """


class Folder:
    """Files on this machine.

    Args:
        folder: The folder, possibly one of the Hub's cache.

    Raises:
        ModelError: something in it is no regular file and would be opened as one.
        OSError: it cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: Mapping[str, int] = regular_files(folder)

    def read(self, name: str, most: int = SMALL) -> bytes:
        """A file of at most so many bytes."""
        return read_bytes(self.folder / name, most)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file."""
        with opened(self.folder / name) as content:
            content.seek(start)
            return content.read(length)


class HubRepository:
    """Files on the Hub; small ones are kept in its cache, of weights only headers are fetched.

    Args:
        repo: Id, e.g. ``"org/model"``.
        revision: Branch, tag or commit; None: the main branch.

    Raises:
        OSError: the Hub cannot be reached.
        ModelError: the Hub has no such model, or does not give it to this user.
    """

    def __init__(self, repo: str, revision: str | None) -> None:
        from huggingface_hub import HfApi, constants

        self.folder = None
        self._repo = repo
        self._api = HfApi(endpoint=constants.ENDPOINT)
        self._revision, self.files = _listing(self._api, repo, revision)

    def read(self, name: str, most: int = SMALL) -> bytes:
        """A file of at most so many bytes, kept in the cache."""
        with _network():
            path = self._api.hf_hub_download(self._repo, name, revision=self._revision)
        return read_bytes(Path(path), most)

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of a file, by one request."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, not marked so
            build_hf_headers,
            hf_raise_for_status,
        )

        url = hf_hub_url(self._repo, name, revision=self._revision, endpoint=self._api.endpoint)
        part = {"range": f"bytes={start}-{start + length - 1}"}
        headers = {**build_hf_headers(), **part}
        with _network():
            response = get_session().get(url, headers=headers, timeout=TIMEOUT_S)
            hf_raise_for_status(response)
        return bytes(response.content)


@contextmanager
def _network() -> Iterator[None]:
    """Turns what a network that breaks raises into an OSError."""
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx's own

    try:
        yield
    except HTTPError as error:
        if isinstance(error, OSError):  # an answer that says no
            raise
        raise ConnectionError(f"the Hub cannot be reached ({error})") from error


def _listing(api: HfApi, repo: str, revision: str | None) -> tuple[str | None, dict[str, int]]:
    """The commit, and its files with their sizes."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's own
        GatedRepoError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT_S)
        if info.gated:
            api.auth_check(repo)
    except GatedRepoError as error:
        raise ModelError(
            f"{repo} is gated on the Hub, and this user has no access",
            fix=f"Ask for access on its page and run `hf auth login`: {api.endpoint}/{repo}.",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"{repo} is neither a folder nor a model on the Hub that this user may see",
            fix="Check the spelling; for a private model run `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{repo} has no revision {revision!r} on the Hub",
            fix="Name a branch, tag or commit.",
        ) from error
    except HTTPError as error:
        raise ConnectionError(f"the Hub cannot be reached ({error})") from error
    except HFValidationError as error:
        raise ModelError(
            f"{repo} is neither a folder nor a name that the Hub could have",
            fix="Name a folder or a Hub id.",
        ) from error
    at_top = (file for file in info.siblings or () if "/" not in file.rfilename)
    return info.sha, {file.rfilename: file.size or 0 for file in at_top}


def open_repository(path: str, revision: str | None = None) -> Repository:
    """A folder, the Hub's cache if it has all weights or the network is off, else the Hub.

    Raises:
        OSError: the files cannot be reached.
        ModelError: there is no such model.
    """
    folder = Path(path)
    if is_folder(folder):
        return Folder(folder)
    if _is_path(path):
        raise ModelError(
            f"there is no folder {path}{_nearest_folder(folder)}", fix="Name a folder or a Hub id."
        )
    if is_file(folder):
        raise ModelError(f"{path} is a file, expected a model's folder", fix="Name its folder.")
    from huggingface_hub import constants

    cached = cached_snapshot(path, revision)
    if cached is not None and (constants.HF_HUB_OFFLINE or has_all_weights(cached)):
        return Folder(cached)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{path} is not in the Hub's cache, and the network is off{_nearest_cached(path)}",
            fix="Download it, or unset HF_HUB_OFFLINE.",
        )
    return HubRepository(path, revision)


def cached_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a Hub model in the cache, complete or not; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except IncompleteSnapshotError as error:
        return Path(error.snapshot_path)
    except (LocalEntryNotFoundError, ValueError):  # ValueError: no name of a repository
        return None


def has_all_weights(folder: Path) -> bool:
    """Whether every weight file that a folder should have is there."""
    index = folder / WEIGHT_INDEX
    if not is_file(index):
        return any(path.suffix in (".safetensors", ".bin") for path in listed(folder))
    try:
        return all(is_file(folder / shard) for shard in shards_in(read_bytes(index)))
    except (OSError, ValueError):
        return False


def _is_path(path: str) -> bool:
    """Whether it can only be meant as a folder, not as the name of a model on the Hub."""
    parent = Path(path).parent
    is_written_as_path = path.startswith(("/", ".", "~")) or path.count("/") > 1
    return is_written_as_path or (parent != Path() and is_folder(parent))


def _nearest_folder(folder: Path) -> str:
    if not is_folder(folder.parent):
        return ""
    return nearest(folder.name, [path.name for path in listed(folder.parent) if is_folder(path)])


def _nearest_cached(repo: str) -> str:
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    there = listed(cache) if is_folder(cache) else []
    names = [path.name for path in there if path.name.startswith("models--")]
    return nearest(repo, [name.removeprefix("models--").replace("--", "/") for name in names])
