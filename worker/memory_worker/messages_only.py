"""Lets our own processes load Qdrant's protobuf messages without the rest of qdrant-client.

``from qdrant_client import grpc`` first runs the ``__init__`` of ``qdrant_client``, which loads the client and pydantic
models of Qdrant's whole REST API. That is half of the CPU time of a start, and 30 MiB. Only the messages are needed.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.abc import Loader

_PACKAGE: Final = "qdrant_client"
_MESSAGES: Final = "grpc"


def import_messages_only() -> None:
    """Put off the ``__init__`` of ``qdrant_client`` until a name other than ``grpc`` is imported from there.

    Call this at the start of a process of our own, never in an app's. It does nothing if the package is loaded already
    or not installed.
    """
    if _PACKAGE in sys.modules:
        return
    spec = find_spec(_PACKAGE)
    if spec is not None and spec.loader is not None:
        package = module_from_spec(spec)
        vars(package)["__getattr__"] = partial(_attribute, package, spec.loader)
        sys.modules[_PACKAGE] = package


def _attribute(package: ModuleType, loader: Loader, name: str) -> Any:
    """Run the ``__init__``, once, and return an attribute. An `AttributeError` makes Python look for a submodule."""
    if name == _MESSAGES or vars(package).pop("__getattr__", None) is None:
        raise AttributeError(f"module {_PACKAGE!r} has no attribute {name!r}")
    loader.exec_module(package)
    return getattr(package, name)
