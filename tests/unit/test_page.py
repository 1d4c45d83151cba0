"""page.py: the files of the page, and who is sent them compressed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

import built_page
from antiphon import page
from antiphon.page import takes_gzip


def test_the_files_are_those_of_the_page(tmp_path: Path) -> None:
    built_page.write(tmp_path)
    found = page.load(tmp_path)
    assert found.keys() == built_page.PARTS.keys()
    for path, part in built_page.PARTS.items():
        file = found[path]
        assert (file.content_type, file.body) == (part.content_type, part.body)
        assert file.cache_control == (page.FOR_EVER if part.kept else page.NOT_KEPT)
        if part.gzipped:
            assert file.gzipped
            assert len(file.gzipped) < len(part.body)
            assert gzip.decompress(file.gzipped) == part.body
        else:
            assert file.gzipped is None


def test_assets_without_an_index_are_no_page(tmp_path: Path) -> None:
    built_page.write(tmp_path)
    (tmp_path / "index.html").unlink()
    assert page.load(tmp_path) == {}
    assert page.load(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    "header",
    [
        "gzip",
        "GZIP",
        "br, gzip",
        "gzip;q=0.1",
        "br;q=1.0, gzip;q=0.8, *;q=0.1",
        "*",
        "br;q=0, *;q=0.5",
        "gzip ; q=1",
    ],
)
def test_who_takes_gzip(header: str) -> None:
    assert takes_gzip(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "br",
        "identity",
        "gzip;q=0",
        "gzip;q=0.000, *",
        "*;q=0",
        "gzip;q=many",
        "xgzip",
        "gzip;q=",
        ";",
        ",",
    ],
)
def test_who_does_not(header: str | None) -> None:
    assert not takes_gzip(header)
