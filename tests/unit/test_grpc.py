"""gRPC's layer over HTTP/2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.rpc import grpc
from antiphon.rpc.grpc import Messages
from antiphon.rpc.status import Http2Code, RpcError, Status

MESSAGES = [b"", b"a", bytes(1000), b"xyz" * 50]


class TestMessages:
    def test_one_after_the_other(self) -> None:
        messages = Messages(10_000)
        for message in MESSAGES:
            assert messages.feed(grpc.framed(message)) == [message]
            assert messages.whole

    def test_all_at_once(self) -> None:
        messages = Messages(10_000)
        assert messages.feed(b"".join(map(grpc.framed, MESSAGES))) == MESSAGES
        assert messages.whole

    @pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, 999])
    def test_in_pieces(self, size: int) -> None:
        data = b"".join(map(grpc.framed, MESSAGES))
        messages = Messages(10_000)
        found = []
        for at in range(0, len(data), size):
            found += messages.feed(data[at : at + size])
        assert found == MESSAGES
        assert messages.whole

    def test_one_that_is_begun_is_not_whole(self) -> None:
        messages = Messages(10)
        assert messages.whole
        for part in (b"\0\0", b"\0\0\1"):
            assert messages.feed(part) == []
            assert not messages.whole
        assert messages.feed(b"x") == [b"x"]
        assert messages.whole

    @pytest.mark.parametrize("cut", [5, 3])
    def test_one_that_is_too_long_is_not_waited_for(self, cut: int) -> None:
        messages = Messages(10)
        with pytest.raises(RpcError) as error:
            for part in (grpc.framed(bytes(11))[:cut], grpc.framed(bytes(11))[cut:]):
                messages.feed(part)
        assert error.value.status is Status.RESOURCE_EXHAUSTED

    def test_one_that_is_compressed_was_not_offered(self) -> None:
        with pytest.raises(RpcError) as error:
            Messages(10).feed(b"\1\0\0\0\1x")
        assert error.value.status is Status.INTERNAL

    @given(st.lists(st.binary(max_size=40)), st.lists(st.integers(1, 60)))
    def test_however_they_are_cut(self, sent: list[bytes], cuts: list[int]) -> None:
        data = b"".join(map(grpc.framed, sent))
        messages = Messages(40)
        found = []
        for cut in [*cuts, len(data)]:
            found += messages.feed(data[:cut])
            data = data[cut:]
        found += messages.feed(data)
        assert found == sent


class TestRequest:
    def test_has_pseudo_headers_first(self) -> None:
        headers = grpc.request_headers(
            "h:1", "/a.B/C", (("x", "y"), ("k-bin", b"\0\1")), secure=False, timeout_s=1.5, agent="me"
        )
        assert [name for name, _ in headers[:4]] == [":method", ":scheme", ":path", ":authority"]
        fields = dict(headers)
        assert (fields[":scheme"], fields["grpc-timeout"], fields["k-bin"]) == ("http", "1500m", "AAE=")
        assert fields["te"] == "trailers"

    def test_has_a_deadline_of_eight_digits_at_most(self) -> None:
        for timeout_s, value in ((1e9, "99999999m"), (-1, "0m")):
            headers = grpc.request_headers("h:1", "/a", (), secure=True, timeout_s=timeout_s, agent="")
            assert dict(headers)["grpc-timeout"] == value
        headers = grpc.request_headers("h:1", "/a", (), secure=True, timeout_s=None, agent="")
        assert "grpc-timeout" not in dict(headers)
        assert dict(headers)[":scheme"] == "https"


class TestAnswer:
    def test_metadata_is_what_is_not_the_protocols(self) -> None:
        headers = [
            *((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")),
            *(("a", "b"), ("x-bin", "AAE"), ("x-bin", "AAE=,AAI="), ("y-bin", "no base64!")),
        ]
        assert grpc.metadata_of(headers) == (
            *(("a", "b"), ("x-bin", b"\0\1"), ("x-bin", b"\0\1"), ("x-bin", b"\0\2")),
        )

    def test_informational_headers_are_told_apart(self) -> None:
        assert grpc.is_informational([(":status", "103")])
        assert not grpc.is_informational([(":status", "200")])
        assert not grpc.is_informational([])

    @pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
    def test_that_is_grpcs_goes_on(self, kind: str) -> None:
        assert grpc.refusal([(":status", "200"), ("content-type", kind)]) is None

    @pytest.mark.parametrize(
        ("status", "meant"),
        [
            *(("400", Status.INTERNAL), ("401", Status.UNAUTHENTICATED), ("404", Status.UNIMPLEMENTED)),
            *(("503", Status.UNAVAILABLE), ("418", Status.UNKNOWN), ("200", Status.UNKNOWN)),
            *(("", Status.UNKNOWN), ("abc", Status.UNKNOWN), ("1234", Status.UNKNOWN)),
        ],
    )
    def test_that_is_not_is_a_status(self, status: str, meant: Status) -> None:
        refusal = grpc.refusal([(":status", status), ("content-type", "text/html")])
        assert refusal
        assert refusal.status is meant

    def test_that_has_a_status_at_once_is_that(self) -> None:
        refusal = grpc.refusal([(":status", "503"), ("grpc-status", "7")])
        assert refusal
        assert refusal.status is Status.PERMISSION_DENIED


class TestEnd:
    def test_has_a_status_details_and_metadata(self) -> None:
        ended = grpc.ended([("grpc-status", "8"), ("grpc-message", "zu viel%3A %C3%A4%zz"), ("a", "b")])
        assert (ended.status, ended.details) == (Status.RESOURCE_EXHAUSTED, "zu viel: ä%zz")
        assert ended.trailers == (("a", "b"),)
        assert str(ended) == "RESOURCE_EXHAUSTED: zu viel: ä%zz"
        assert str(grpc.ended([("grpc-status", "0")])) == "OK"

    @pytest.mark.parametrize("status", ["", "x", "-1", "²", "99", "9" * 5000])
    def test_that_has_none_is_not_known(self, status: str) -> None:
        assert grpc.ended([("grpc-status", status)]).status is Status.UNKNOWN

    @pytest.mark.parametrize(
        ("code", "status"),
        [
            (Http2Code.CANCEL, Status.CANCELLED),
            (Http2Code.REFUSED_STREAM, Status.UNAVAILABLE),
            (Http2Code.PROTOCOL_ERROR, Status.INTERNAL),
            (4711, Status.INTERNAL),
        ],
    )
    def test_of_a_stream_that_was_reset(self, code: int, status: Status) -> None:
        assert grpc.reset(code).status is status
