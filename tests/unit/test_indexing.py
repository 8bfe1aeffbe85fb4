from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import grpc as q

from memory_worker.store.indexing import HELD_FROM_KB, held, is_held, restored, threshold_of

thresholds = st.integers(0, HELD_FROM_KB - 1)


def info(**optimizer: int) -> q.CollectionInfo:
    return q.CollectionInfo(config=q.CollectionConfig(optimizer_config=q.OptimizersConfigDiff(**optimizer)))


@given(thresholds)
def test_a_held_threshold_contains_the_threshold_before(threshold_kb: int) -> None:
    assert not is_held(threshold_kb)
    assert is_held(held(threshold_kb))
    assert restored(held(threshold_kb)) == threshold_kb


@given(thresholds)
def test_holding_and_restoring_twice_change_nothing(threshold_kb: int) -> None:
    assert held(held(threshold_kb)) == held(threshold_kb)
    assert restored(threshold_kb) == threshold_kb


@given(thresholds)
def test_a_held_threshold_fits_the_integers_of_qdrant(threshold_kb: int) -> None:
    """Qdrant multiplies it by 1,024 in 64 bits, and its dashboard has integers up to 2^53 only."""
    assert held(threshold_kb) * 1024 < 2**63
    assert held(threshold_kb) < 2**53


def test_the_threshold_that_qdrant_reports_is_read() -> None:
    assert threshold_of(info(indexing_threshold=20_000)) == 20_000
    assert threshold_of(info(indexing_threshold=0)) == 0
    assert threshold_of(info()) == 10_000
