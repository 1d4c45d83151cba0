"""Memories and the handles that restore them."""

import pytest

from antiphon.engine.memory import (
    HANDLE_LIFETIME_S,
    MAX_ENTRIES,
    MAX_ENTRY_CHARS,
    MAX_HANDLES,
    HandleInUse,
    Handles,
    HandleUnknown,
    Memory,
)


def test_a_memory_keeps_the_last_entries_cut_to_size() -> None:
    memory = Memory()
    for number in range(MAX_ENTRIES + 3):
        memory = memory.with_entry("user", f" {number} " + "x" * MAX_ENTRY_CHARS)
    assert len(memory.entries) == MAX_ENTRIES
    assert memory.entries[0].text.startswith("3 ")
    assert all(len(entry.text) == MAX_ENTRY_CHARS for entry in memory.entries)


def test_the_last_of_each_side() -> None:
    memory = Memory().with_entry("user", "a").with_entry("model", "b").with_entry("user", "c")
    assert (memory.last("user"), memory.last("model")) == ("c", "b")
    assert Memory().last("user") is None


def test_a_handle_brings_a_memory_back_once_its_connection_is_over() -> None:
    handles, first, second, third = Handles(), object(), object(), object()
    memory = Memory().with_entry("user", "hello")
    handle = handles.keep(memory, first, 0.0)
    with pytest.raises(HandleInUse):
        handles.resume(handle, second, 1.0)
    handles.release(first)
    assert handles.resume(handle, second, 2.0) == memory
    with pytest.raises(HandleInUse):
        handles.resume(handle, third, 3.0)
    handles.release(second)
    assert handles.resume(handle, third, 4.0) == memory


def test_a_connection_keeps_its_last_two_handles() -> None:
    handles, owner = Handles(), object()
    given = [handles.keep(Memory(), owner, 0.0) for _ in range(3)]
    handles.release(owner)
    assert len(handles) == 2
    with pytest.raises(HandleUnknown):
        handles.resume(given[0], object(), 1.0)
    for handle in given[1:]:
        handles.resume(handle, object(), 1.0)


def test_a_resumed_handle_stays_good_until_two_newer_ones() -> None:
    handles, first, second = Handles(), object(), object()
    old = handles.keep(Memory(), first, 0.0)
    handles.release(first)
    handles.resume(old, second, 0.0)
    handles.keep(Memory(), second, 0.0)
    assert len(handles) == 2
    handles.keep(Memory(), second, 0.0)
    assert len(handles) == 2
    handles.release(second)
    with pytest.raises(HandleUnknown):
        handles.resume(old, object(), 0.0)


def test_handles_age() -> None:
    handles, owner = Handles(), object()
    handle = handles.keep(Memory(), owner, 0.0)
    handles.release(owner)
    handles.resume(handle, owner, HANDLE_LIFETIME_S - 1)
    handles.release(owner)
    with pytest.raises(HandleUnknown):
        handles.resume(handle, owner, HANDLE_LIFETIME_S)
    assert len(handles) == 0


def test_handles_are_bounded_and_the_oldest_goes_first() -> None:
    handles = Handles()
    first, *_, last = [handles.keep(Memory(), object(), float(number)) for number in range(MAX_HANDLES + 1)]
    assert len(handles) == MAX_HANDLES
    with pytest.raises(HandleUnknown):
        handles.resume(first, object(), 0.0)
    with pytest.raises(HandleInUse):
        handles.resume(last, object(), 0.0)


def test_handles_cannot_be_guessed() -> None:
    handles = Handles()
    given = {handles.keep(Memory(), object(), 0.0) for _ in range(100)}
    assert len(given) == 100
    assert all(len(handle) == 32 for handle in given)
