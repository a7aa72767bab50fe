"""Keeps out of memory what libraries name and a sidecar never calls."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType


@contextmanager
def uncalled(*names: str) -> Iterator[None]:
    """Have modules that are imported meanwhile find stand-ins for those of these names that nobody has imported yet.

    A stand-in loads the real module as soon as somebody looks into it; whoever imports that name afterwards gets the
    real one.
    """
    stand_ins = {name: _stand_in(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            _remove(name, stand_in)


def _stand_in(name: str) -> ModuleType:
    module = ModuleType(name)

    def found(attribute: str) -> object:
        _remove(name, module)
        return getattr(import_module(name), attribute)

    vars(module)["__getattr__"] = found
    return module


def _remove(name: str, stand_in: ModuleType) -> None:
    if sys.modules.get(name) is stand_in:
        del sys.modules[name]
