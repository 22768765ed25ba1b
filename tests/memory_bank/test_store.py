"""Pictures and masks under the digest of their pixels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from contracts.errors import InvalidInput, MemoryBankError
from contracts.records import Image
from memory_bank.store import ContentStore, decode, encode, pixel_digest


@pytest.fixture
def store(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "store"))


def noise(*shape: int) -> Image:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@settings(deadline=None, max_examples=50)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_size_survives_the_png(height: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) > 0.5
    assert np.array_equal(decode("image", encode("image", image)), image)
    back = decode("mask", encode("mask", mask))
    assert back.dtype == np.bool_ and back.tobytes() == mask.tobytes()


def test_masks_are_one_bit_and_pictures_rgb(store: ContentStore) -> None:
    with Pillow.open(store.path("mask", store.put_mask(noise(8, 8) > 99))) as file:
        assert file.mode == "1"
    with Pillow.open(store.path("image", store.put_image(noise(8, 8, 3)))) as file:
        assert file.mode == "RGB"


def test_the_digest_is_of_the_pixels_not_of_the_file(store: ContentStore) -> None:
    image = noise(9, 7, 3)
    digest = store.put_image(image)
    Pillow.fromarray(image).save(store.path("image", digest), "PNG", compress_level=9, optimize=True)
    assert np.array_equal(store.image(digest), image)
    assert store.put_image(np.asfortranarray(image)) == digest
    assert pixel_digest("image", image.reshape(7, 9, 3)) != digest
    white = np.array(Pillow.new("1", (7, 9), 1))  # a bool array whose true bytes are 255
    assert store.put_mask(white) == store.put_mask(np.ones((9, 7), dtype=bool))


def test_the_digest_never_changes() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert pixel_digest("image", image) == (
        "911e0b046b09d8f450052cb5dae3c140b839afd168dcaacfe6a87ce5a9ff4af3"
    )
    assert pixel_digest("mask", np.array([[True, False, True]])) == (
        "5db40d2c460df497efdb2675c9d66053c321be46fb0b515a044c49716019223d"
    )


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other picture", "text", "gray"])
def test_damage_is_detected_and_repaired_by_storing_again(store: ContentStore, damage: str) -> None:
    image = noise(16, 16, 3)
    digest = store.put_image(image)
    path = Path(store.path("image", digest))
    whole = path.read_bytes()
    other = store.path("image", store.put_image(noise(8, 8, 3)))
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "flip": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
            "empty": b"",
            "other picture": Path(other).read_bytes(),
            "text": b"hello",
            "gray": encode("mask", image[..., 0] > 99),
        }[damage]
    )
    with pytest.raises(MemoryBankError) as caught:
        store.image(digest)
    assert str(path) in str(caught.value) and "restore it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert store.put_image(image) == digest
    assert np.array_equal(store.image(digest), image)


def test_missing_file_and_text_that_is_no_digest(store: ContentStore) -> None:
    with pytest.raises(MemoryBankError, match="missing"):
        store.image("0" * 64)
    with pytest.raises(MemoryBankError, match="digest"):
        store.image("../../secret")


def test_a_half_written_file_is_never_visible(store: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(16, 16, 3)
    digest = pixel_digest("image", image)
    seen: list[list[Path]] = []

    def power_cut(handle: int) -> None:
        seen.append([p for p in Path(store.root).rglob("*") if p.is_file()])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", power_cut)
    with pytest.raises(MemoryBankError, match="No space left"):
        store.put_image(image)
    assert len(seen[0]) == 1 and seen[0][0].suffix == ".tmp"
    assert [p for p in Path(store.root).rglob("*") if p.is_file()] == []
    monkeypatch.undo()
    assert store.put_image(image) == digest
    assert [p.name for p in Path(store.root).rglob("*") if p.is_file()] == [f"{digest}.png"]


def test_other_file_systems() -> None:
    store = ContentStore("memory://bank/pictures")
    mask = noise(5, 6) > 100
    assert np.array_equal(store.mask(store.put_mask(mask)), mask)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), noise(0, 4, 3)]
)
def test_arrays_that_are_no_picture(store: ContentStore, image: Image) -> None:
    with pytest.raises(InvalidInput, match="uint8"):
        store.put_image(image)


def test_arrays_that_are_no_mask(store: ContentStore) -> None:
    with pytest.raises(InvalidInput, match="bool"):
        store.put_mask(np.zeros((4, 4), np.uint8))  # type: ignore[arg-type]
