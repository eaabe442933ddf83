from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from thalweg.lowering.buffers import PAGE, is_plain, make_state, overlaps_itself, plain


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [0, 1, 1000, 5000, 1 << 16])
def test_state_is_zero_aligned_and_long_enough(dtype: type, rows: int, size: int) -> None:
    state = make_state(rows, np.zeros(size, dtype))
    assert state.shape[0] == rows
    assert state.shape[1] >= size
    assert state.dtype == dtype
    assert state.flags.c_contiguous
    assert state.flags.aligned
    assert state.flags.writeable
    assert not state.any()


def test_rows_of_a_large_state_start_at_different_places_of_a_page() -> None:
    param = np.zeros(1 << 16, np.float32)
    state = make_state(2, param)
    starts = [param.ctypes.data % PAGE, *(row.ctypes.data % PAGE for row in state)]
    gaps = [abs(a - b) for i, a in enumerate(starts) for b in starts[:i]]
    assert min(min(gap, PAGE - gap) for gap in gaps) >= 512


def unaligned() -> np.ndarray:
    return np.zeros(8 * 3 + 1, np.uint8)[1:].view(np.float64)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, 4), order="F"), np.zeros(4)[::-1], np.zeros(8)[::2], np.zeros(4, ">f8"), unaligned()],
    ids=["fortran", "negative stride", "strided", "big-endian", "unaligned"],
)
def test_what_is_not_plain_gets_a_plain_copy(array: np.ndarray) -> None:
    assert not is_plain(array)
    copy = plain(array)
    assert is_plain(copy)
    assert not np.shares_memory(copy, array)
    np.testing.assert_array_equal(copy, array)


def test_what_is_plain_stays() -> None:
    for array in (np.zeros(3), np.zeros((2, 3), np.float32), np.zeros(()), np.zeros((0, 2))):
        assert plain(array) is array


def test_overlap_within_an_array_is_seen() -> None:
    base = np.arange(10.0)
    assert overlaps_itself(as_strided(base, (4,), (0,)))
    assert overlaps_itself(as_strided(base, (4, 3), (8, 8)))
    for fine in (base, base[::-1], base[::3], base.reshape(2, 5).T, base.reshape(2, 5)[:, ::2], base[:0], base[3:4]):
        assert not overlaps_itself(fine)
