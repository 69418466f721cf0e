"""Compiled functions start where nothing can be written, and after a power cut."""

from __future__ import annotations

import importlib
import sys

import pytest
from numba.core.caching import CacheImpl

from utils.compiled import compiled

SOURCE = """
from utils.compiled import compiled

@compiled
def twice(x):
    return 2 * x

@compiled
def twice_more(x):
    return 4 * x
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load(): the module of SOURCE as a new process would see it."""
    (tmp_path / "kernels_here.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def fresh():
        sys.modules.pop("kernels_here", None)
        return importlib.import_module("kernels_here")

    yield fresh
    sys.modules.pop("kernels_here", None)


def test_without_a_place_for_machine_code_it_is_compiled_anew(monkeypatch):
    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    assert compiled(lambda x: 2 * x)(4) == 8


def kept(tmp_path, pattern):
    return sorted((tmp_path / "__pycache__").glob(pattern))


def test_machine_code_is_kept_and_used_again(load, tmp_path):
    assert load().twice(4) == 8 and len(kept(tmp_path, "*.nbc")) == 1
    again = load()
    assert again.twice(4) == 8 and sum(again.twice.stats.cache_hits.values()) == 1


@pytest.mark.parametrize(("suffix", "length"), [("nbi", 0), ("nbi", 5), ("nbi", 60), ("nbc", 0)])
def test_what_a_power_cut_left_is_removed(load, tmp_path, suffix, length):
    module = load()
    assert (module.twice(4), module.twice_more(4)) == (8, 16)
    (damaged,) = kept(tmp_path, f"*.twice-*.{suffix}")
    damaged.write_bytes(damaged.read_bytes()[:length])
    again = load()
    assert (again.twice(4), again.twice_more(4)) == (8, 16)
    assert sum(again.twice_more.stats.cache_hits.values()) == 1  # the other function's files were left
    assert damaged.stat().st_size > length
