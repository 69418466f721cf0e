"""Files of results and records that something else wrote: one line that names the value, never a traceback."""

from __future__ import annotations

import json
import os

import pytest

from utils.errors import UserError
from utils.results import read_rows, write_rows
from utils.runs import read_record
from utils.schema import TEXT, choice, each, maybe, misfit, optional, parts, real, table, whole
from utils.types import ResultRow

ROW = ResultRow("test", None, "regdb/i2v", 1, None, "cosine", 12.5, 0, 0, 0, 0, 100.0)
RECORD = {"seed": 8, "device": "cpu", "data": {"root": "/data", "fingerprint": "a", "chance_r1": {"regdb/i2v": 0.5}}}
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("shape", "good", "bad", "said"),
    [
        (real(0, 1), [0, 0.5, 1], [-1, float("nan"), True, "1", None, 2**70], "x is"),
        (real(), [-1e300, 2**60], [float("inf")], "x is inf, not a finite number"),
        (whole(0, 3), [0, 3], [4, 1.0, True, None], "not a whole number from 0 to 3"),
        (choice("a", 1), ["a", 1], [True, "b", 1.0], "not 'a' or 1"),
        (maybe(TEXT), [None, "t"], [3], "not a text"),
        (each(TEXT), [[], ["t"], ("t",)], [[3]], "x[0] is 3, not a text"),
        (table(TEXT, whole(0)), [{}, {"a": 1}], [{"a": "1"}], "x['a'] is '1', not a whole number"),
        (table(TEXT, whole(0)), [], [{3: 1}], "a key of x is 3, not a text"),
        (parts(TEXT, whole(0)), [("a", 1)], [["a", 1], ("a",)], "x is a "),
        (
            {"a": {"b": whole(0)}, "c": optional(TEXT)},
            [{"a": {"b": 0, "more": 1}}],
            [{"a": {"b": -1}}],
            "x.a.b is -1, not a whole number from 0 to 1000000000",
        ),
        ({"a": TEXT}, [], [{}], "x.a is missing"),
        ({"a": TEXT}, [], [None, [], 3], "not a dict"),
    ],
)
def test_shapes(shape, good, bad, said):
    assert [misfit(value, shape, "x") for value in good] == [None] * len(good)
    for value in bad:
        assert said in misfit(value, shape, "x")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"r1": "x"}, "r1 is 'x', not a finite number"),
        ({"mAP": float("nan")}, "mAP is nan"),
        ({"r1": 101}, "r1 is 101"),
        ({"ranking": [1]}, "ranking is a list"),
        ({"epoch": 1.5}, "epoch is 1.5"),
        ({"stage": "other"}, "stage is 'other'"),
        ({"protocol": ""}, "protocol is ''"),
        ({"selected_on": 3}, "selected_on is 3"),
    ],
)
def test_a_row_with_a_value_of_another_type(tmp_path, change, said):
    path = tmp_path / "results.jsonl"
    write_rows(path, [ROW])
    assert read_rows(path) == [ROW]
    path.write_text(path.read_text() + json.dumps({**ROW._asdict(), **change}) + "\n")
    with pytest.raises(UserError, match="line 2 is not a result row") as refused:
        read_rows(path)
    assert said in str(refused.value)


def test_files_of_rows_that_are_no_text_too_deep_or_no_file(tmp_path):
    path = tmp_path / "results.jsonl"
    for content in (b"\xff\xfe", DEEP.encode(), b'{"stage": '):
        path.write_bytes(content)
        with pytest.raises(UserError, match=str(path)):
            read_rows(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="a pipe or a device"):
        read_rows(path)


@pytest.mark.parametrize(
    "record",
    [None, [], {}, {**RECORD, "data": None}, {**RECORD, "seed": "8"}, {**RECORD, "git": 3}, {**RECORD, "versions": []}],
)
def test_a_record_of_another_shape(tmp_path, record):
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    assert read_record(tmp_path) == RECORD
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="not a run folder, run.json is missing or damaged in it"):
        read_record(tmp_path)


def test_a_record_too_deep(tmp_path):
    (tmp_path / "run.json").write_text(DEEP)
    with pytest.raises(UserError, match="not a run folder"):
        read_record(tmp_path)
