"""Pages and packets: written, cut anywhere, damaged, forged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.ogg import MAX_PAGE_BYTES, Hole, PacketReader, Page, PageReader, PageWriter
from audio_samples import cut, mux_opus, pieces, tone
from tries import tries

SIZES = [0, 1, 254, 255, 256, 509, 510, 511, 1275, 65_024, 65_025, 65_026, 130_050, 140_000]


def written(sizes: Sequence[int], serial: int = 5) -> tuple[list[bytes], list[bytes]]:
    """Return packets of these sizes, and the pages of a stream: a head, then them."""
    packets = [bytes([n % 251]) * size for n, size in enumerate(sizes, 1)]
    writer = PageWriter(serial)
    pages = [writer.write([(b"head", 0)])]
    for n, packet in enumerate(packets, 1):
        pages.append(writer.write([(packet, n * 960)], last=n == len(packets)))
    return packets, pages


def read(chunks: Iterable[bytes]) -> list[Page | Hole]:
    reader = PageReader()
    items = [item for chunk in chunks for item in reader.feed(chunk)]
    return [*items, *reader.flush()]


def packets_of(items: Iterable[Page | Hole], max_bytes: int = 1 << 20) -> list[bytes | Hole]:
    reader = PacketReader(max_bytes)
    return [packet for item in items if isinstance(item, Page) for packet in reader.feed(item)]


def header(body: int, *, version: int = 0, flags: int = 0, count: int | None = None) -> bytes:
    """Return a page's header that claims so long a body, or so many segments, with a CRC that is wrong."""
    full, rest = divmod(body, 255)
    lacing = b"\xff" * full + bytes([rest]) if count is None else b"\xff" * count
    return b"OggS" + bytes([version, flags]) + bytes(20) + bytes([len(lacing)]) + lacing


class TestRoundTrip:
    @pytest.mark.parametrize("size", SIZES)
    def test_every_size_of_packet(self, size: int) -> None:
        packets, pages = written([10, size, 10])
        items = read(pages)
        assert packets_of(items) == [b"head", *packets]
        assert not any(isinstance(item, Hole) for item in items)

    @settings(max_examples=tries(40), deadline=None)
    @given(st.lists(st.sampled_from(SIZES) | st.integers(0, 600), max_size=12), st.data())
    def test_cut_anywhere(self, sizes: list[int], data: st.DataObject) -> None:
        packets, pages = written(sizes)
        stream = b"".join(pages)
        places = data.draw(st.lists(st.integers(0, len(stream)), max_size=40))
        items = read(cut(stream, places))
        assert packets_of(items) == [b"head", *packets]
        assert items == read([stream])

    def test_many_packets_in_one_call(self) -> None:
        packets = [(bytes([n % 256]) * (n % 40), 960 * n) for n in range(1, 1001)]
        items = read([PageWriter(1).write(packets, last=True)])
        assert packets_of(items) == [packet for packet, _ in packets]
        pages = [item for item in items if isinstance(item, Page)]
        assert [page.granule for page in pages] == [960 * n for n in (255, 510, 765, 1000)]
        assert [page.first for page in pages] == [True, False, False, False]
        assert [page.last for page in pages] == [False, False, False, True]

    def test_a_long_packet_is_continued(self) -> None:
        first, second = read([PageWriter(9).write([(bytes(70_000), 960)], last=True)])
        assert isinstance(first, Page)
        assert isinstance(second, Page)
        assert (first.granule, first.continued, first.unfinished, first.last) == (None, False, True, False)
        assert (second.granule, second.continued, second.unfinished, second.last) == (960, True, False, True)
        assert (second.serial, second.number, len(second.parts[0])) == (9, 1, 70_000 - 255 * 255)

    def test_no_packets_no_page(self) -> None:
        assert PageWriter(1).write([], last=True) == b""

    def test_pages_of_another_writer(self) -> None:
        pages = read(pieces(mux_opus(tone(48_000, 48_000)), 100))
        assert all(isinstance(page, Page) for page in pages)
        assert sum(len(page.parts) for page in pages if isinstance(page, Page)) == 2 + 51


class TestDamage:
    @pytest.mark.parametrize("size", [1, 100, 1_000_000])
    @pytest.mark.parametrize("place", [0, 4, 5, 10, 23, 26, 27, 28, 29, 200])
    def test_costs_its_page_and_one_hole(self, place: int, size: int) -> None:
        _, pages = written([300] * 9)
        expected = read(pages)
        at = len(b"".join(pages[:4]))
        stream = bytearray(b"".join(pages))
        stream[at + place] ^= 0x55
        items = read(pieces(bytes(stream), size))
        assert items == [*expected[:4], Hole(), *expected[5:]]
        packets = packets_of(items)
        assert packets == [*packets_of(expected)[:4], Hole(), *packets_of(expected)[5:]]

    def test_what_a_damaged_header_claims_is_not_waited_for(self) -> None:
        _, pages = written([300] * 3)
        damaged = pages[1][:26] + b"\xff" + pages[1][27:]
        first, third = read([pages[0], pages[2]])
        assert list(PageReader().feed(pages[0] + damaged + pages[2])) == [first, Hole(), third]

    def test_several_regions(self) -> None:
        _, pages = written([100] * 4)
        items = read([b"junk", *pages[:2], b"OggS", b"OggS" + bytes(22), pages[2], pages[3][:-1], b"Og"])
        first, second, third = read(pages[:3])
        assert items == [Hole(), first, second, Hole(), third, Hole()]

    def test_junk_is_told_at_once(self) -> None:
        assert list(PageReader().feed(bytes(100))) == [Hole()]
        assert list(PageReader().feed(b"Og")) == []

    def test_a_page_inside_of_a_page(self) -> None:
        """The one that ends first is taken, however they come."""
        inner = PageWriter(1).write([(b"inner", 1)])
        outer = PageWriter(2).write([(b"x" * 100 + inner + b"y" * 100, 1)])
        for size in (1, 50, 1000):
            items = read(pieces(outer, size))
            assert packets_of(items) == [b"inner"]
            assert items[0] == items[2] == Hole()

    def test_a_page_that_begins_inside_of_a_page(self) -> None:
        second = PageWriter(1).write([(b"second", 1)])
        first = PageWriter(2).write([(b"first" + second[:20], 1)])
        for size in (1, 40, 1000):
            items = read(pieces(first + second[20:], size))
            assert packets_of(items) == [b"first" + second[:20]]
            assert items[1:] == [Hole()]

    def test_a_resync_drops_what_is_not_whole(self) -> None:
        _, pages = written([100] * 4)
        reader = PageReader()
        items = list(reader.feed(pages[0] + pages[1] + pages[2][:50]))
        reader.resync()
        items += reader.feed(pages[3][60:] + pages[4])
        expected = read(pages)
        assert items == [expected[0], expected[1], expected[4]]
        assert packets_of(items)[2] == Hole()

    @settings(max_examples=tries(150), deadline=None)
    @given(st.data())
    def test_what_comes_out_does_not_depend_on_the_cutting(self, data: st.DataObject) -> None:
        _, pages = written([0, 20, 300, 600])
        inner = b"".join(pages[1:3])
        parts = [
            *pages,
            pages[2][:100],
            pages[3][:-1] + b"x",
            PageWriter(3).write([(inner + bytes(50), 0)]),
            b"OggS",
            b"Ogg",
            bytes(7),
            header(30),
            header(700),
            header(700, version=1),
            header(0, count=255),
            header(40, flags=8),
        ]
        stream = b"".join(data.draw(st.lists(st.sampled_from(parts), max_size=25)))
        places = data.draw(st.lists(st.integers(0, len(stream)), max_size=60))
        whole = read([stream])
        assert read(cut(stream, places)) == whole
        assert read(pieces(stream, 1)) == whole


class TestPackets:
    def test_a_lost_page_is_a_hole(self) -> None:
        _, pages = written([10, 10, 10, 10])
        del pages[2]
        packets = packets_of(read(pages))
        assert [packet if isinstance(packet, Hole) else len(packet) for packet in packets] == [
            4,
            10,
            Hole(),
            10,
            10,
        ]

    def test_a_packet_that_lost_its_beginning_or_end(self) -> None:
        stream = PageWriter(1).write(
            [(b"a", 1), (b"b" * 140_000, 2), (b"c", 3), (b"d" * 140_000, 4), (b"e", 5)]
        )
        pages = [item for item in read([stream]) if isinstance(item, Page)]
        assert len(pages) == 5
        names = [
            [packet[:1] if isinstance(packet, bytes) else None for packet in packets_of(part)]
            for part in (pages[1:], pages[2:], [pages[0], *pages[2:]], [*pages[:2], *pages[4:]], pages[:2])
        ]
        assert names == [
            [None, None, b"c", b"d", b"e"],
            [None, b"c", b"d", b"e"],
            [b"a", None, None, b"c", b"d", b"e"],
            [b"a", None, None, b"e"],
            [b"a"],
        ]

    def test_a_continuation_that_does_not_come(self) -> None:
        begun = Page(1, 0, None, False, False, False, True, (b"begun",))
        other = Page(1, 1, 5, False, False, False, False, (b"other",))
        assert packets_of([begun, other]) == [Hole(), b"other"]

    def test_an_empty_page_changes_nothing(self) -> None:
        begun = Page(1, 0xFFFF_FFFF, None, False, False, False, True, (b"be",))
        empty = Page(1, 0, None, False, False, True, False, ())
        ended = Page(1, 1, 5, False, False, True, False, (b"gun",))
        assert packets_of([begun, empty, ended]) == [b"begun"]

    def test_a_long_packet_is_cut(self) -> None:
        items = read([PageWriter(1).write([(bytes(500_000), 1), (bytes(101), 2), (bytes(99), 2)])])
        assert packets_of(items, 100) == [bytes(101), bytes(101), bytes(99)]


class TestLimits:
    @pytest.mark.parametrize(
        "unit",
        [
            b"OggS",
            b"OggS\0",
            header(65_025, count=255),
            header(65_025, count=255)[:100],
            header(0),
            header(17),
            header(300) + bytes(200),
            written([0])[1][1],
        ],
    )
    def test_time_is_linear_in_hostile_bytes(self, unit: bytes) -> None:
        """The limit is far: one quadratic step would take many minutes."""
        stream = unit * (400_000 // len(unit))
        begin = time.process_time()
        read(pieces(stream, 48_000))
        assert time.process_time() - begin < 60

    def test_memory_is_bounded(self) -> None:
        reader = PageReader()
        packets = PacketReader(1000)
        unit = header(65_025, count=255) + bytes(9_000)
        page = Page(1, 0, None, False, False, True, True, (bytes(65_000),))
        for number in range(50):
            assert len(list(reader.feed(unit))) <= 1
            assert len(reader._buffer) <= MAX_PAGE_BYTES + len(unit)
            list(packets.feed(Page(1, number, None, False, False, number > 0, True, page.parts)))
            assert len(packets._unfinished or b"") == 1001
