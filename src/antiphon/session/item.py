"""Something for the model, as it waits, is on its way, and is written down."""

from __future__ import annotations

from typing import Final

from msgspec import Raw, Struct, ValidationError, msgpack
from msgspec.structs import replace

from antiphon import live

__all__ = ["Item", "dump_item", "load_item", "told"]


class Item(Struct):
    """Something for the model, the `number`th of all that ever was; `again`: given to two connections.

    `end` is where its audio ends in that of the session, in bytes, and `size` how much there is of it.
    """

    number: int
    item: live.LiveInput
    loud: bool = False
    again: bool = False
    end: int = 0
    size: int = 0

    def __post_init__(self) -> None:
        self.size = len(self.item.pcm) if type(self.item) is live.Audio else 0

    def after(self, place: int) -> Item | None:
        """Return it without the audio before a place; None where nothing is left."""
        if not isinstance(self.item, live.Audio) or self.end - self.size >= place:
            return self
        left = self.end - place
        return replace(self, item=live.Audio(self.item.pcm[-left:])) if left > 0 else None


def told(entry: Item) -> Item:
    """Return an item for a model that knows of no calls: their results are turns of the user."""
    if not isinstance(entry.item, live.ToolResult):
        return entry
    return replace(entry, item=entry.item.told())


_KINDS: Final[tuple[type[live.LiveInput], ...]] = (
    live.Audio,
    live.AudioEnd,
    live.ActivityStart,
    live.ActivityEnd,
    live.Interrupt,
    live.Text,
    live.ToolResult,
)


def dump_item(entry: Item) -> bytes:
    """Return an item as it is written down."""
    kind = _KINDS.index(type(entry.item))
    return msgpack.encode((entry.number, kind, entry.loud, entry.again, entry.end, entry.item))


def load_item(data: bytes) -> Item:
    """Return the item that was written down.

    Raises:
        msgspec.DecodeError: it is none.
    """
    form = tuple[int, int, bool, bool, int, Raw]
    number, kind, loud, again, end, raw = msgpack.decode(data, type=form)
    if not 0 <= kind < len(_KINDS):
        raise ValidationError(f"Nothing is of the kind {kind}.")
    item: live.LiveInput = msgpack.decode(raw, type=_KINDS[kind])
    return Item(number, item, loud, again, end)
