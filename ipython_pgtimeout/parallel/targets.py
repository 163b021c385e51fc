"""``--engines``: which engines of the active client, as ``%%px --targets`` takes them."""

from __future__ import annotations

from typing import Any

from ..values import InputError

_EXAMPLES = ("all", "0", "0,2:4", "::2")


def view_of(ip: Any, text: str) -> Any:
    """A direct view on the engines that ``text`` names, of the client whose ``%px`` is active. Raises InputError."""
    magics = ip.magics_manager.registry.get("ParallelMagics")
    view = getattr(magics, "view", None)
    if view is None:
        raise InputError(
            ": there is no active ipyparallel client; write for example rc = ipp.Cluster(n=4).start_and_connect_sync()",
            field="engines",
        )
    client = view.client
    return client[_numbers(text, list(client.ids))]


def _numbers(text: str, ids: list[int]) -> list[int]:
    if text.strip() == "all":
        return ids
    chosen: list[int] = []
    for part in text.split(","):
        try:
            bounds = [int(bound) if bound.strip() else None for bound in part.split(":")]
            found = ids[slice(*bounds)] if ":" in part else [ids[ids.index(int(part))]]
        except (ValueError, TypeError):
            raise InputError(f" can't be {text!r}, of {ids}", *_EXAMPLES, field="engines") from None
        chosen += [number for number in found if number not in chosen]
    if not chosen:
        raise InputError(f" {text!r} names none of {ids}", *_EXAMPLES, field="engines")
    return chosen
