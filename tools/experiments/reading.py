"""Table files: from YAML to a checked `Table`. A mistake is one UserError naming the file, the row and the field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from configs import load_config
from configs.defaults import TEST, affecting
from data.sets import DATASETS
from engine.build import rankings
from tools.experiments.fields import NEEDED, ROW_FIELDS, TABLE_FIELDS, is_text, require_fields
from tools.experiments.table import Column, Table, TableRow, options
from utils.errors import UserError, pick
from utils.results import SHOWN
from utils.yml import quoted, read_yml

RUNNERS_KEYS = {
    "resume": "the runner resumes by itself",
    "test_only": "give the row `tests: ROW`",
    "output_dir": "--results says where runs go",
}
COLUMN_KEYS = dict.fromkeys(("rankers", "mser"), "the keys of the table say which rankings all its rows show")
TEST_KEYS = affecting(TEST) - COLUMN_KEYS.keys()  # no training depends on them


def read_table(path: Path) -> Table:
    """A table file, checked against the configuration's keys and the data set's protocols. Opens no image."""
    fields = read_fields(path, ())
    for name in NEEDED:
        if name not in fields:
            raise UserError(f"{path}: {name} is missing; docs/tables.md shows a table file")
    cfg = configuration(str(path), fields["cfg"], fields.get("keys", {}))
    dataset = DATASETS[cfg.dataset]
    protocols = (*dataset.protocols, *(dataset.extra if cfg.extra_protocols else ()))
    require_choices(path, "protocols", fields["protocols"], protocols)
    require_choices(path, "metrics", fields["metrics"], SHOWN)
    require_splits(path, fields.get("splits", []), cfg.dataset)
    with said_of(str(path)):
        rankers = tuple(rankings(cfg))
    table = Table(
        path=path,
        title=fields["title"],
        note=fields.get("note", ""),
        cfg=fields["cfg"],
        keys=typed(cfg, fields.get("keys", {})),
        seeds=tuple(fields["seeds"]),
        splits=tuple(fields.get("splits", [])),
        protocols=tuple(fields["protocols"]),
        metrics=tuple(fields["metrics"]),
        rows=(),
        figure_row="",
        rankers=rankers,
    )
    rows: dict[str, TableRow] = {}
    for number, given in enumerate(fields["rows"], start=1):
        row = read_row(table, rows, number, given)
        rows[row.name] = row
    trained = [row.name for row in rows.values() if row.tests is None]
    figure_row = fields.get("pictures", trained[-1])
    require_choices(path, "pictures", [figure_row], trained)
    return table._replace(rows=tuple(rows.values()), figure_row=figure_row)


def read_fields(path: Path, seen: Sequence[Path]) -> dict[str, Any]:
    """The file's fields over those of the files that it is based on, whose published figures it does not take over."""
    if path in seen:
        raise UserError(f"{path}: base leads back to this file")
    fields = read_yml(path, "`field: value` lines", "configs/tables holds the table files")
    require_fields(str(path), fields, TABLE_FIELDS)
    names = fields.pop("base", [])
    merged: dict[str, Any] = {}
    for name in [names] if isinstance(names, str) else names:
        base = read_fields(path.parent / f"{name}.yml", (*seen, path))
        merged = over(merged, {**base, **unpublished(base)})
    return over(merged, fields)


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of both files, those of `above` where both have one; `keys` are taken from both key by key."""
    keys = {**below.get("keys", {}), **above.get("keys", {})}
    return {**below, **above, **({"keys": keys} if keys else {})}


def unpublished(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The rows of a file without their published figures, which are those of other runs."""
    if "rows" not in fields:
        return {}
    kept = ROW_FIELDS.keys() - {"published", "source"}
    return {"rows": [{name: value for name, value in row.items() if name in kept} for row in fields["rows"]]}


def read_row(table: Table, before: Mapping[str, TableRow], number: int, given: Mapping[str, Any]) -> TableRow:
    """One row; `before`: the rows above it, which it may refer to."""
    where = f"{table.path}: row {given['name']!r}" if is_text(given.get("name")) else f"{table.path}: row {number}"
    require_fields(where, given, ROW_FIELDS)
    if "name" not in given:
        raise UserError(f"{where}: name is missing")
    if given["name"] in before:
        raise UserError(f"{where}: name is that of an earlier row; names tell rows apart")
    keys, tests = given.get("keys", {}), given.get("tests")
    require_not(where, keys, COLUMN_KEYS)
    if tests is not None:
        keys = {**tested_row(where, before, tests, keys).keys, **keys}
    if "ranking" in given:
        require_choices(where, "ranking", [given["ranking"]], table.rankers)
    cfg = configuration(where, table.cfg, {**table.keys, **keys})
    published = read_published(where, table, given.get("published", {}))
    if published and "source" not in given:
        raise UserError(f"{where}: source is missing: where are the published figures from?")
    return TableRow(
        name=given["name"],
        keys=typed(cfg, keys),
        tests=tests,
        rankings=(given["ranking"],) if "ranking" in given else table.rankers,
        published=published,
        source=given.get("source", ""),
    )


def tested_row(where: str, before: Mapping[str, TableRow], name: str, keys: Iterable[str]) -> TableRow:
    """The row whose model is tested; UserError unless it trains one that `keys` leave as it is."""
    trained = {row.name: row for row in before.values() if row.tests is None}
    if name not in trained:
        raise UserError(f"{where}: tests = {name!r} must name a row above it that trains its model")
    for key in keys:
        if key not in TEST_KEYS:
            choices = ", ".join(sorted(TEST_KEYS))
            raise UserError(f"{where}: keys: {key} needs a training of its own; with `tests`, change only {choices}")
    return trained[name]


def read_published(where: str, table: Table, given: Mapping[str, Any]) -> dict[Column, float]:
    """{protocol: {ranking: {metric: percent}}}, flattened."""
    figures = {}
    for column, value in _leaves(where, given):
        for name, choices in zip(column, (table.protocols, table.rankers, table.metrics)):
            require_choices(where, "published", [name], choices)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 100:
            raise UserError(f"{where}: published = {quoted(value)} must be a percentage, 0 to 100")
        figures[column] = float(value)
    return figures


def _leaves(where: str, given: Any, names: tuple[str, ...] = ()) -> Iterable[tuple[Column, Any]]:
    if len(names) == len(Column._fields):
        yield Column(*names), given
        return
    if not isinstance(given, dict):
        raise UserError(
            f"{where}: published = {quoted(given)} must be written as protocol: {{ranking: {{metric: percent}}}}"
        )
    for name, inner in given.items():
        yield from _leaves(where, inner, (*names, name))


def configuration(where: str, cfg: str, keys: Mapping[str, Any]) -> CfgNode:
    """The configuration of a file and changed keys; a mistake in it is said to be in `where`."""
    require_not(where, keys, RUNNERS_KEYS)
    with said_of(where):
        loaded = load_config(cfg, options(keys))
        pick(DATASETS, loaded.dataset, "dataset")
    return loaded


@contextmanager
def said_of(where: str) -> Iterator[None]:
    """Turns a mistake in a configuration into one in `where`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {str(error).replace('command line: ', 'keys: ')}") from None


def require_not(where: str, keys: Iterable[str], reasons: Mapping[str, str]) -> None:
    """UserError for a key that cannot be set here, with the reason."""
    for key in keys:
        if key in reasons:
            raise UserError(f"{where}: keys: {key} cannot be set here: {reasons[key]}")


def typed(cfg: CfgNode, keys: Iterable[str]) -> dict[str, Any]:
    """The values of some keys in their own types."""
    return {key: cfg[key] for key in keys}


def require_choices(where: str | Path, field: str, given: Iterable[str], choices: Iterable[str]) -> None:
    for name in given:
        if name not in choices:
            raise UserError(f"{where}: {field}: {quoted(name)} is unknown; choose from {', '.join(choices)}")


def require_splits(path: Path, given: Sequence[int], dataset: str) -> None:
    known = DATASETS[dataset].splits
    if given and not known:
        raise UserError(f"{path}: splits: {dataset} has one split; leave the field out")
    for split in given:
        if split not in known:
            raise UserError(f"{path}: splits: {split} is unknown; {dataset} has {known[0]} to {known[-1]}")
