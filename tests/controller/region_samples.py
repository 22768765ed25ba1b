"""Findings and masks for the tests of the inpainting parts."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from contracts.records import CATEGORIES, Finding


def rectangle(shape, left, top, right, bottom):
    mask = np.zeros(shape, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def finding(mask, confidence=0.9, phrase="the shadow", category="physics"):
    return Finding(mask, phrase, "it falls toward the light", category, confidence)


@st.composite
def rectangles(draw, shape):
    height, width = shape
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return rectangle(shape, left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height)))


shapes = st.one_of(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(97, 31), (31, 97), (9, 150), (150, 9), (64, 64)]),
)


@st.composite
def pictures_with_findings(draw, max_findings=4):
    """A shape, its findings and, perhaps, a protected area."""
    shape = draw(shapes)
    found = draw(
        st.lists(
            st.builds(
                finding,
                rectangles(shape),
                st.floats(0, 1),
                st.sampled_from(["a", "b"]),
                st.sampled_from(CATEGORIES),
            ),
            max_size=max_findings,
        )
    )
    return shape, found, draw(st.none() | rectangles(shape))
