"""Packages that only some commands need."""

import json

import pytest

from utils.errors import UserError
from utils.extras import require


def test_an_installed_module_is_handed_over():
    assert require("json", "the test") is json


def test_a_missing_package_is_named_with_the_way_to_install_it():
    with pytest.raises(UserError, match=r"the index xyz needs the package no_such_package, .*requirements-serve\.txt"):
        require("no_such_package.part", "the index xyz")


def test_a_package_that_does_not_load_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise ImportError('built for another numpy')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="broken_package, which does not load .built for another numpy"):
        require("broken_package", "the test")
