"""Which commit of a Hub model is used: from the local cache, else from the Hub."""

from __future__ import annotations

from evomerge.models.repository import cached_snapshot, has_all_weights


def commit_of(repo: str, revision: str | None) -> str:
    """The commit's hash.

    Raises:
        OSError: the Hub cannot be reached.
        ValueError: there is no such model, or no such revision.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError: httpx's own
        HfHubHTTPError,
        HTTPError,
    )

    cached = cached_snapshot(repo, revision)
    if cached is not None and has_all_weights(cached):
        return cached.name
    try:
        commit = HfApi().model_info(repo, revision=revision).sha
    except HfHubHTTPError as error:
        raise ValueError(f"{repo}: the Hub says no ({error})") from error
    except HTTPError as error:
        raise ConnectionError(f"{repo}: the Hub cannot be reached ({error})") from error
    if commit is None:
        raise ValueError(f"{repo}: the Hub names no commit")
    return commit
