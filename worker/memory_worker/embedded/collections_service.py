"""``qdrant.Qdrant`` and ``qdrant.Collections``: health, collections by name, and aliases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qdrant_client import grpc as q

from memory_worker.embedded.refusals import answering, bad_argument, out_of_range
from memory_worker.embedded.schema import config_after_update, config_at_creation, schema_to_proto

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

    from memory_worker.embedded.shards import Shards

SERVER_VERSION = "1.20.0"
"""The version whose behaviour the front has. Clients compare it with their own version."""
_MAX_NAME = 255
_FORBIDDEN_IN_NAMES = frozenset('<>:"/\\|?*\0\x1f')


def check_name(name: str) -> None:
    """Refuse a name that is invalid in every request."""
    if not 1 <= len(name) <= _MAX_NAME:
        raise out_of_range("collection_name", f'"{name}"', f"must be from 1 to {_MAX_NAME} characters")


def _check_new_name(name: str) -> None:
    check_name(name)
    if forbidden := _FORBIDDEN_IN_NAMES.intersection(name):
        raise bad_argument(f'Validation error in body: [collection_name: cannot contain "{min(forbidden)}" char]')


class HealthService(q.QdrantServicer):
    """``qdrant.Qdrant``. Health checks return ``commit``, which identifies this process."""

    def __init__(self, commit: str) -> None:
        self._commit = commit

    def HealthCheck(self, _request: q.HealthCheckRequest, _context: grpc.ServicerContext) -> q.HealthCheckReply:  # noqa: N802
        """Return title, version and commit."""
        return q.HealthCheckReply(
            title="qdrant - vector search engine", version=SERVER_VERSION, commit=self._commit or None
        )


class CollectionsService(q.CollectionsServicer):
    """``qdrant.Collections``."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    @answering
    def List(self, _request: q.ListCollectionsRequest) -> q.ListCollectionsResponse:  # noqa: N802
        """Return the names of all collections."""
        return q.ListCollectionsResponse(
            collections=[q.CollectionDescription(name=name) for name in self._shards.names()]
        )

    @answering
    def CollectionExists(self, request: q.CollectionExistsRequest) -> q.CollectionExistsResponse:  # noqa: N802
        """Say whether a collection exists."""
        check_name(request.collection_name)
        exists = request.collection_name in self._shards
        return q.CollectionExistsResponse(result=q.CollectionExists(exists=exists))

    @answering
    def Get(self, request: q.GetCollectionInfoRequest) -> q.GetCollectionInfoResponse:  # noqa: N802
        """Return the counts, the configuration and the payload indexes of a collection."""
        check_name(request.collection_name)
        collection = self._shards[request.collection_name]
        info = collection.shard.info()
        return q.GetCollectionInfoResponse(
            result=q.CollectionInfo(
                status=q.CollectionStatus.Green,
                optimizer_status=q.OptimizerStatus(ok=True),
                segments_count=info.segments_count,
                config=collection.config,
                payload_schema=schema_to_proto(info.payload_schema),
                points_count=info.points_count,
                indexed_vectors_count=info.indexed_vectors_count,
            )
        )

    @answering
    def Create(self, request: q.CreateCollection) -> q.CollectionOperationResponse:  # noqa: N802
        """Create a collection with one unnamed dense vector."""
        _check_new_name(request.collection_name)
        self._shards.create(request.collection_name, config_at_creation(request))
        return q.CollectionOperationResponse(result=True)

    @answering
    def Update(self, request: q.UpdateCollection) -> q.CollectionOperationResponse:  # noqa: N802
        """Change the settings of the optimizer, HNSW and quantization, and the metadata."""
        check_name(request.collection_name)
        collection = self._shards[request.collection_name]
        collection.reconfigure(config_after_update(collection.config, request))
        return q.CollectionOperationResponse(result=True)

    @answering
    def Delete(self, request: q.DeleteCollection) -> q.CollectionOperationResponse:  # noqa: N802
        """Delete a collection. ``result`` is false if it did not exist."""
        check_name(request.collection_name)
        return q.CollectionOperationResponse(result=self._shards.delete(request.collection_name))

    @answering
    def UpdateAliases(self, request: q.ChangeAliases) -> q.CollectionOperationResponse:  # noqa: N802
        """Create, rename and delete aliases, in order."""
        if request.HasField("timeout") and request.timeout < 1:
            raise out_of_range("timeout", request.timeout, "must be 1 or larger")
        self._shards.change_aliases(request.actions)
        return q.CollectionOperationResponse(result=True)

    @answering
    def ListAliases(self, _request: q.ListAliasesRequest) -> q.ListAliasesResponse:  # noqa: N802
        """Return all aliases with their collections."""
        return _aliases(self._shards.aliases.items())

    @answering
    def ListCollectionAliases(self, request: q.ListCollectionAliasesRequest) -> q.ListAliasesResponse:  # noqa: N802
        """Return the aliases of a collection; none if it does not exist."""
        check_name(request.collection_name)
        return _aliases(pair for pair in self._shards.aliases.items() if pair[1] == request.collection_name)


def _aliases(pairs: Iterable[tuple[str, str]]) -> q.ListAliasesResponse:
    return q.ListAliasesResponse(
        aliases=[q.AliasDescription(alias_name=alias, collection_name=target) for alias, target in pairs]
    )
