"""The cursors of lists are text, and no other text is accepted."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_worker.contract.errors import InvalidJob
from memory_worker.store.cursors import Cursor, Order, decode_cursor, encode_cursor, first_cursor

IDS = st.none() | st.integers(0, 2**64 - 1) | st.uuids().map(str)
CURSORS = st.one_of(
    st.builds(Cursor, order=st.just("id"), part=st.just("all"), next_id=IDS),
    st.builds(
        Cursor,
        order=st.sampled_from(["created", "updated"]),
        part=st.sampled_from(["below", "at", "without"]),
        value=st.integers(-(2**53), 2**53),
        next_id=IDS,
    ),
)


@given(CURSORS)
def test_a_cursor_is_text_for_urls(cursor: Cursor) -> None:
    text = encode_cursor(cursor)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert len(text) <= 512
    assert decode_cursor(text, cursor.order) == cursor


@given(st.text(max_size=60) | st.binary(max_size=30).map(lambda body: base64.urlsafe_b64encode(body).decode()))
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidJob, match=r"^cursor: "):
        decode_cursor(text, "id")


@pytest.mark.parametrize(
    ("cursor", "order"),
    [
        (["created", "below", 1], "updated"),
        (["created", "below", 1], "id"),
        (["id", "all"], "created"),
        (["id", "at", 1], "id"),
        (["id", "below", None], "id"),
        (["created", "all"], "created"),
        (["created", "at", None], "created"),
        (["created", "below", 2**53 + 1], "created"),
        (["created", "below", 1, -1], "created"),
        (["created", "below", 1, 1, 1], "created"),
        (["other", "all"], "other"),
        (["id", "all", "1"], "id"),
        ([], "id"),
    ],
)
def test_a_cursor_of_another_list_is_refused(cursor: list[object], order: Order) -> None:
    text = base64.urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode()
    with pytest.raises(InvalidJob, match=r"^cursor: "):
        decode_cursor(text, order)


@pytest.mark.parametrize("order", ["id", "created", "updated"])
def test_a_list_begins_at_its_first_point(order: Order) -> None:
    cursor = first_cursor(order)
    assert (cursor.value, cursor.next_id) == (None, None)
    assert decode_cursor(encode_cursor(cursor), order) == cursor
