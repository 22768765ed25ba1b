"""Digests are those of the content, wherever it is cut."""

import hashlib

import pytest

from contracts.digests import blocks, file_sha256, sha256_of


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_read_in_blocks_and_whole(tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "file").write_bytes(content[:size])
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content[:size]).hexdigest()
    assert max(map(len, blocks(tmp_path / "file")), default=0) <= 1 << 20


def test_pieces_count_as_one_text():
    assert sha256_of([b"ab", memoryview(b"c")]) == sha256_of([b"abc"]) != sha256_of([b"acb"])


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "none")
