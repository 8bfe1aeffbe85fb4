"""The kinds of a ``KINDS_FILE``: what its tables mean, and which of its mistakes are named."""

from __future__ import annotations

import os
import pickle
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from memory_worker.contract.errors import ConfigurationError
from memory_worker.contract.kind_specs import KindSpec, kinds_of, spec_of
from memory_worker.contract.kinds import KINDS, Kind
from memory_worker.settings import Settings, load_settings
from tests.documents import ROOT, blocks

NOTE = """
[note]
collection = "notes"
id_prefix = "note"
dimension = 8
distance = "dot"
user_ids = "string"
namespaces = true
search_limit = 7
search_min_score = 0.25
narrowing = ["category", "file_id"]

[note.fields]
category = "str"
file_id = "int"
open = "bool"
created = "int"
_version = "int"
rating = "float"

[note.filter]
open = true

[note.defaults]
open = true
rating = 0.5
"""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "kinds.toml"
    monkeypatch.setenv("KINDS_FILE", str(path))
    return path


def fields(kind: Kind) -> dict[str, object]:
    return {name: getattr(kind, name) for name in Kind.__slots__}


def test_without_a_file_the_kinds_are_the_built_in_ones() -> None:
    kinds = load_settings().kinds
    assert kinds == KINDS
    assert [list(kind.indexes) for kind in kinds.values()] == [list(kind.indexes) for kind in KINDS.values()]


def test_a_built_in_kind_starts_from_its_own_values(file: Path) -> None:
    file.write_text("[memory]\ndimension = 1536\n\n[document]\n")
    kinds = load_settings().kinds
    assert fields(kinds["memory"]) == {**fields(KINDS["memory"]), "dimension": 1536}
    assert kinds["document"] == KINDS["document"]
    assert list(kinds["memory"].indexes) == list(KINDS["memory"].indexes)


def test_fields_and_indexes_add_to_those_of_a_built_in_kind(file: Path) -> None:
    file.write_text('[memory.fields]\nplace = "str"\nmood = "str"\n[memory.indexes]\nplace = "keyword"\n')
    kind = load_settings().kinds["memory"]
    assert kind.payload_types == {**KINDS["memory"].payload_types, "place": str, "mood": str}
    assert kind.indexes == {**KINDS["memory"].indexes, "place": "keyword"}


def test_only_the_kinds_of_the_file_are_served(file: Path) -> None:
    file.write_text(NOTE)
    assert list(load_settings().kinds) == ["note"]


def test_a_table_describes_a_whole_kind(file: Path) -> None:
    file.write_text(NOTE)
    assert fields(load_settings().kinds["note"]) == {
        "name": "note",
        "collection": "notes",
        "id_prefix": "note",
        "namespaced": True,
        "dimension": 8,
        "distance": "dot",
        "user_ids": "string",
        "payload_types": {
            "category": str, "file_id": int, "open": bool, "created": int, "_version": int, "rating": float
        },
        "payload_defaults": {"open": True, "rating": 0.5},
        "narrowing": ("category", "file_id"),
        "search_filter": {"open": True},
        "indexes": {
            "category": "keyword", "file_id": "integer", "open": "bool", "created": "integer", "_version": "integer",
            "user_id": "keyword", "_point_id": "keyword",
        },
        "default_limit": 7,
        "default_min_score": 0.25,
    }  # fmt: skip


def test_a_kind_without_a_dimension_has_that_of_the_settings(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[memory]\n[note]\ncollection = "notes"\nid_prefix = "note"\ndimension = 8\n')
    monkeypatch.setenv("QDRANT_VECTOR_DIMENSION", "384")
    limits = load_settings().limits
    assert {name: limits.dimension_of(kind) for name, kind in limits.kinds.items()} == {"memory": 384, "note": 8}


def test_a_collection_in_the_file_comes_before_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[memory]\ncollection = "of_file"\n[document]\n')
    monkeypatch.setenv("QDRANT_MEMORIES_COLLECTION", "unused")
    monkeypatch.setenv("QDRANT_DOCUMENTS_COLLECTION", "of_variable")
    kinds = load_settings().kinds
    assert {name: kind.collection for name, kind in kinds.items()} == {"memory": "of_file", "document": "of_variable"}


@pytest.mark.parametrize(
    ("table", "score"),
    [
        ("[memory]", 0.7),
        ('[memory]\ndistance = "euclid"', None),
        ('[memory]\ndistance = "dot"\nsearch_min_score = 9', 9.0),
        ('[note]\ncollection = "notes"\nid_prefix = "note"', None),
    ],
)
def test_only_cosines_have_a_threshold_by_default(file: Path, table: str, score: float | None) -> None:
    file.write_text(table)
    (kind,) = load_settings().kinds.values()
    assert kind.default_min_score == score
    assert kinds_of({kind.name: spec_of(kind)}) == {kind.name: kind}


def test_the_file_is_read_once(file: Path) -> None:
    file.write_text(NOTE)
    found = load_settings()
    kinds = found.kinds
    file.unlink()
    moved = found.model_copy(update={"qdrant_url": "http://elsewhere:6334"})
    sent: Settings = pickle.loads(pickle.dumps(found))
    assert found.kinds == moved.kinds == sent.kinds == kinds == found.limits.kinds


def test_quotes_and_a_byte_order_mark_do_no_harm(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINDS_FILE", f'"{file}"')
    file.write_bytes(b"\xef\xbb\xbf[memory]\r\ndimension = 3\r\n")
    assert load_settings().kinds["memory"].dimension == 3


WRONG = {
    "not TOML": ("[note", " it is not TOML: "),
    "no table": ("", " it describes no kind"),
    "not UTF-8": ("# \udcff", " it is not UTF-8 text"),
    "a value beside the tables": ("dimension = 8", " [dimension]: expected `table`, got `int`"),
    "an unknown key": ("[memory]\ndimensions = 8", " [memory] dimensions: is unknown; known are collection, id_prefix"),
    "a wrong type": ('[memory]\ndimension = "8"', " [memory] dimension: expected `int`, got `str`"),
    "a wrong dimension": ("[memory]\ndimension = 0", " [memory] dimension: expected `int` >= 1"),
    "a wrong choice": (
        '[memory]\ndistance = "near"',
        " [memory] distance: invalid enum value 'near'; allowed are cosine, dot, euclid, manhattan",
    ),
    "a wrong type of a field": (
        '[memory.fields]\nkey = "str"\nvalue = "text"',
        " [memory] fields.value: invalid enum value 'text'; allowed are str, int, float, bool",
    ),
    "a wrong item of a list": ("[memory]\nnarrowing = [1]", " [memory] narrowing[0]: expected `str`, got `int`"),
    "a wrong index": ('[memory.indexes]\nkey = "text"', " [memory] indexes.key: invalid enum value 'text'; allowed"),
    "no collection": ('[note]\nid_prefix = "note"', " [note] collection: is missing"),
    "a wrong name": ("[Note]", " [Note]: the name of a kind is 1 to 32 characters a-z 0-9 _"),
    "a field of the worker": ('[memory.fields]\nuser_id = "int"', " [memory] fields.user_id: is written by the worker"),
    "an index without its field": (
        '[memory.indexes]\nplace = "keyword"',
        " [memory] indexes.place: fields needs it as 'str' for an index",
    ),
    "an index of the worker": ('[memory.indexes]\nuser_id = "integer"', " [memory] indexes.user_id: is indexed in any"),
    "a default of another type": ('[memory.defaults]\nkey = 1', " [memory] defaults.key: fields needs it as 'int'"),
    "a default that cannot be stored": (
        '[memory.fields]\nscore = "float"\n[memory.defaults]\nscore = nan',
        " [memory] defaults.score: ",
    ),
    "a score that no cosine has": ("[memory]\nsearch_min_score = 2", " [memory] search_min_score: expected -1 to 1"),
    "a score that is no number": (
        '[memory]\ndistance = "dot"\nsearch_min_score = nan',
        " [memory] search_min_score: expected -3.4e+38 to 3.4e+38, got nan",
    ),
    "one id prefix twice": ('[memory]\n[document]\nid_prefix = "mem"', " [document] id_prefix: 'mem' is also memory"),
    "one collection twice": (
        '[memory]\ncollection = "a"\n[document]\ncollection = "a"',
        " [document] collection: 'a' is also memory.collection",
    ),
    "a collection where a namespace could be": (
        NOTE + '[memory]\ncollection = "notes_old"\n',
        " [memory] collection: 'notes_old' is also the name of the namespace 'old' of note.collection ('notes')",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "problem"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_by_file_table_and_key(content: str, problem: str, file: Path) -> None:
    file.write_text(content, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=f"^{re.escape(f'KINDS_FILE {file}:{problem}')}"):
        load_settings()


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=rf"^KINDS_FILE {re.escape(str(file))}: cannot read it: No such file"):
        load_settings()


def test_a_collision_with_a_variable_names_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[memory]\n[note]\ncollection = "app_notes"\nid_prefix = "note"\n[my_memory]\n'
                    'collection = "mine"\nid_prefix = "my"')  # fmt: skip
    monkeypatch.setenv("QDRANT_MEMORIES_COLLECTION", "app")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert str(refused.value) == (
        f"KINDS_FILE {file}: [note] collection: 'app_notes' is also the name of the namespace 'notes' of "
        "QDRANT_MEMORIES_COLLECTION ('app'); rename one of them"
    )
    monkeypatch.setenv("QDRANT_MEMORIES_COLLECTION", "mine")
    with pytest.raises(
        ConfigurationError, match=r"\[my_memory\] collection: 'mine' is also QDRANT_MEMORIES_COLLECTION$"
    ):
        load_settings()


PAGE = ROOT / "docs" / "kinds.md"


class TestPage:
    """docs/kinds.md."""

    def test_the_file_in_it_describes_what_it_says(self, file: Path) -> None:
        (block,) = blocks([PAGE], "toml")
        file.write_text(block.body)
        limits = load_settings().limits
        assert {name: limits.dimension_of(kind) for name, kind in limits.kinds.items()} == {
            "memory": 1536,
            "document": 1024,
            "note": 768,
        }
        memory, document, note = limits.kinds.values()
        assert fields(memory) == {**fields(KINDS["memory"]), "dimension": 1536}
        assert document == KINDS["document"]
        assert (note.collection, note.id_prefix, note.distance, note.user_ids) == (
            "user_notes",
            "note",
            "dot",
            "string",
        )
        assert (note.namespaced, note.default_limit, note.default_min_score) == (True, 20, 0.25)
        assert set(note.indexes) == {"user_id", "_point_id", "category", "created", "open", "title"}

    def test_it_shows_every_key(self) -> None:
        (block,) = blocks([PAGE], "toml")
        table = tomllib.loads(block.body)["note"]
        assert set(table) == set(KindSpec.__struct_fields__)

    def test_its_other_files_are_yaml(self) -> None:
        compose, overlay = (yaml.safe_load(block.body) for block in blocks([PAGE], "yaml"))
        assert compose["services"]["ingest"] == compose["services"]["search"]
        assert {operation["path"] for operation in yaml.safe_load(overlay["patches"][0]["patch"])} == {
            "/spec/template/spec/volumes/-",
            "/spec/template/spec/containers/0/volumeMounts/-",
        }
