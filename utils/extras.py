"""Packages that training never needs: they are imported when a command asks for them."""

from __future__ import annotations

import importlib
from types import ModuleType

from utils.errors import UserError, reason

FILE = "requirements-serve.txt"


def require(name: str, purpose: str, file: str = FILE) -> ModuleType:
    """The module of this name; purpose: what needs it, as a message says it ("the index faiss"); file: that lists it.

    Raises UserError where it is not installed, or does not load.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise UserError(f"{purpose} needs the package {missing}, which is missing; pip install -r {file}") from None
    except (ImportError, OSError) as error:
        raise UserError(
            f"{purpose} needs the package {name}, which does not load ({reason(error)}); "
            f"pip install --force-reinstall -r {file}"
        ) from None
