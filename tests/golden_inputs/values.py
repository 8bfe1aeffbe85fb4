"""Users, ids, vectors, receipts, and errors of Redis."""

from __future__ import annotations

from typing import Any

PARTITIONS = (1, 2, 7, 16, 32, 64, 1000)
USERS: list[int | str] = [
    *(1, 2, 3, 7, 17, 42, 1730, 1731, 65535, 2**31 - 1, 2**31, 2**32, 2**53, 2**53 + 1, 2**63 - 1),
    *("a", "ann", "ann@example.org", "A-1.b", "0b34bbd0-6f28-4b3f-8f5a-3f5d8b1f9e11", "x" * 128),
]

POINT_IDS = [
    *("mem_1730_1", "mem_1730_12345", "doc_1730_88_0", "mem_9223372036854775807_a:b.c-d_e"),
    *("note_ann@example.org_1", "note_0b34bbd0-6f28-4b3f-8f5a-3f5d8b1f9e11_x", "", " ", "mem_1730_\u00fc"),
    *("\u20ac\U0001f600\u0000", "e\u0301", "\u00e9", "a" * 200),
]

NUMBERS: dict[str, list[Any]] = {
    "none": [],
    "exact": [0.0, 1.0, -1.0, 0.5, -0.25, 2.0**-126, 16777216.0],
    "integers": [0, 1, -1, 16777216],
    "negative zero": [-0.0],
    "rounded": [0.1, -0.1, 1 / 3, 3.141592653589793, 1e-10, 123456789.0, 1e22],
    "half way to the even neighbour": [16777217.0, 16777219.0, 1 + 2.0**-24, 1 + 3 * 2.0**-24],
    "integers that float32 rounds": [16777217, 16777219, -(2**53) - 1, 2**63 - 1],
    "subnormal": [2.0**-149, -(2.0**-149), 2.0**-127, 1.1754942106924411e-38],
    "below the smallest": [2.0**-150, 1.0000001 * 2.0**-150, -(2.0**-151), 5e-324],
    "largest": [3.4028234663852886e38, -3.4028234663852886e38, 3.4028235e38, 3.4028235677973362e38],
    "too large": [3.4028235677973366e38, -1e39, 1.7976931348623157e308],
    "not finite": [{"number": "inf"}, {"number": "-inf"}],
}
"""Lists of numbers that are packed, without a check."""

CHECKED: list[tuple[str, list[Any]]] = [
    ("cosine", [1, 0]),
    ("cosine", [2.0**-11, 0]),
    ("cosine", [-(2.0**-12), 2.0**-12]),
    ("cosine", [0, 0.0004882]),
    ("cosine", [0.0, -0.0]),
    ("cosine", [2.0**-149, 0]),
    ("cosine", [2.0**63, 0]),
    ("cosine", [2.0**63, 2.0**63]),
    ("cosine", [1e38, 0]),
    ("cosine", [{"number": "nan"}, 0]),
    ("cosine", [0, {"number": "inf"}]),
    ("cosine", [{"number": "-inf"}, {"number": "nan"}]),
    ("cosine", [3.5e38, 0]),
    ("cosine", [1]),
    ("cosine", [1, 2, 3]),
    ("cosine", ["1", 2]),
    ("cosine", [1, None]),
    ("euclid", [0, 0]),
    ("euclid", [2.0**-149, 0]),
    ("euclid", [1e19, 0]),
    ("euclid", [0, {"number": "nan"}]),
]
"""The distance of a kind with two dimensions, and a vector."""

RECEIPTS = [
    *("17/1732000000000-0", "0/1-0", "0/0-1", "99999/18446744073709551615-18446744073709551615", "007/01-00"),
    *(
        "",
        "17",
        "17/",
        "/1-0",
        "17/0-0",
        "17/1",
        "17/1-",
        "17/-1-0",
        "-1/1-0",
        "100000/1-0",
        "17/18446744073709551616-0",
    ),
    *(
        "17/1-18446744073709551616",
        " 17/1-0",
        "17/1-0 ",
        "17/1-0\n",
        "17 /1-0",
        "x/1-0",
        "17/a-b",
        "17/1-0-0",
        "+7/1-0",
    ),
]

REDIS_ERRORS = [
    *(
        "QUEUEFULL jobs 10",
        "QUEUEFULL bytes 1048576",
        "QUEUEFULL reads 1000",
        "PARTITIONS 16",
        "TOOLARGE 2000000 1048576",
    ),
    *("TOOLATE 1732000000000", "OOM command not allowed when used memory > 'maxmemory'."),
    *("READONLY You can't write against a read only replica.", "LOADING Redis is loading the dataset in memory"),
    *("NOPERM User app has no permissions to run the 'evalsha' command", "BUSY Redis is busy running a script."),
    *("MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",),
    *("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", "TRYAGAIN Multiple keys"),
    *("NOREPLICAS Not enough good replicas to write.", "UNBLOCKED the stream key no longer exists"),
    *("MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381", "CLUSTERDOWN The cluster is down"),
    *("CROSSSLOT Keys in request don't hash to the same slot", "NOAUTH Authentication required."),
    *("WRONGPASS invalid username-password pair or user is disabled.", "ERR max number of clients reached"),
    *("WRONGTYPE Operation against a key holding the wrong kind of value", "ERR unknown command 'XADD'", "ERR", "5"),
]
