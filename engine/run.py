"""A training run: what it remembers, when it evaluates and saves, and how it resumes after it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn
from torch.utils.data import DataLoader

from engine.average import Average, averaged, evaluate_average
from engine.checkpoint import Origin, load_weights_into, open_checkpoint
from engine.distributed import send
from engine.evaluator import Evaluator, mean_rank1
from engine.retrieval.rankers import PLAIN
from engine.saving import save_checkpoint
from utils.errors import UserError
from utils.logging import logger
from utils.processes import on_main
from utils.results import format_table, read_rows, write_rows
from utils.runs import BEST, LAST, RESULTS
from utils.types import ResultRow, Stage


@dataclass
class Progress:
    """What a run remembers beside tensors; a checkpoint entry of plain values."""

    epoch: int = 0  # completed
    best_epoch: int = 0  # 0: none selected yet
    best_score: float = -1.0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        vars(self).update(asdict(Progress(**state)))


@dataclass(frozen=True)
class Schedule:
    """When a run evaluates, and which model it keeps."""

    num_epoch: int
    eval_initial: bool
    start_eval: int
    eval_interval: int  # 0: never
    select: str  # "test" | "val" | "last"

    def evaluates(self, epoch: int) -> bool:
        """Whether the model is evaluated after this epoch."""
        return self.eval_interval > 0 and epoch >= self.start_eval and epoch % self.eval_interval == 0


class Training:
    """Runs `trainer` over `loader` for the schedule's epochs, saving everything that an exact resume needs.

    parts: the named states of a checkpoint (model, optimizer, scheduler, scaler, rng, progress; ema
    where averaged weights are kept). `test` evaluates the final settings, `selection` the quick ones during training;
    `report` is told all rows. Of several processes the main one alone touches `folder`.
    """

    def __init__(
        self,
        trainer: Engine,
        loader: DataLoader,
        parts: dict[str, Any],
        schedule: Schedule,
        test: Evaluator,
        selection: Evaluator,
        folder: Path,
        origin: Origin,
        report: Callable[[ResultRow], None],
    ):
        self.trainer, self.loader, self.parts, self.schedule = trainer, loader, parts, schedule
        self.test, self.selection, self.folder, self.origin = test, selection, folder, origin
        self.report = report
        self.model: nn.Module = parts["model"]
        self.progress: Progress = parts["progress"]
        self.average: Average | None = parts.get("ema")
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._finish_epoch)

    def run(self, rankings: Sequence[str]) -> list[ResultRow]:
        """Train to the end, then test the selected model, and its averaged weights, under `rankings`: the rows."""
        on_main(self._settle)
        if self.progress.epoch == 0 and not self.progress.rows:
            self._begin()
        if self.progress.epoch < self.schedule.num_epoch:
            length = len(self.loader.batch_sampler)
            state = {"epoch": self.progress.epoch, "max_epochs": self.schedule.num_epoch, "epoch_length": length}
            self.trainer.load_state_dict(state)
            self.trainer.run(self.loader)
        stage = on_main(self._choose, received=lambda stage: Stage(*stage))
        send(self.model)
        rows = self.test(self.model, stage, rankings)
        if self.average is not None and on_main(partial(self._choose_average, self.average, stage)):
            send(self.average.model)
            rows += evaluate_average(self.test, self.average.model, stage, rankings)
        self._report(rows)
        self._write([*self._rows(), *rows])
        return rows

    def _settle(self) -> None:
        """Bring the folder's files to this run's state. A finished run keeps the rows of its test until newer exist."""
        if self.progress.epoch and not (self.folder / LAST).is_file():  # it resumes in a new folder
            save_checkpoint(self.folder, self.origin, self.parts, best=self._is_best())
        rows, path = self._rows(), self.folder / RESULTS
        if not _holds_final(path, rows, self.progress.epoch):
            write_rows(path, rows)

    def _begin(self) -> None:
        if self.schedule.eval_initial:
            rows = self.test(self.model, Stage("initial", 0), [PLAIN])
            logger.info("before training:\n" + format_table(rows))
            self._report(rows)
            self._remember(rows)
        self._save()
        self._publish()

    def _finish_epoch(self, engine: Engine) -> None:
        self.parts["scheduler"].step()
        self.progress.epoch = engine.state.epoch
        if self.schedule.evaluates(engine.state.epoch):
            self._evaluate()
        self._save()
        self._publish()

    def _evaluate(self) -> None:
        rows = self.selection(self.model, Stage("train", self.progress.epoch), [PLAIN])
        self._report(rows)
        for row in rows:
            logger.info(
                f"epoch {row.epoch}, {row.protocol}: rank-1 {row.r1:.2f} %, mAP {row.mAP:.2f} %, mINP {row.mINP:.2f} %"
            )
        self._remember(rows)
        score = mean_rank1(rows)
        if self.schedule.select != "last" and score > self.progress.best_score:
            self.progress.best_score, self.progress.best_epoch = score, self.progress.epoch

    def _choose(self) -> Stage:
        """Load the selected model, and say which it is; the last one where none was selected."""
        epoch, best = self.progress.best_epoch, self.folder / BEST
        if not epoch or self.schedule.select == "last":
            return Stage("test", self.progress.epoch, "last")
        if self._is_best():
            return Stage("test", epoch, self.schedule.select)
        checkpoint = open_checkpoint(str(best), best=True) if best.is_file() else None
        if checkpoint is None or checkpoint.epoch != epoch:
            logger.warning(
                f"{best} does not hold the selected model of epoch {epoch}: the last model is tested instead"
            )
            return Stage("test", self.progress.epoch, "last")
        load_weights_into(self.model, checkpoint, allow_other_head=False)
        logger.info(f"testing the model of epoch {epoch}, selected on {self.schedule.select}")
        return Stage("test", epoch, self.schedule.select)

    def _choose_average(self, average: Average, stage: Stage) -> bool:
        """Load the averaged weights of the tested epoch; False where they are lost."""
        if stage.epoch == self.progress.epoch:
            return True
        checkpoint = averaged(open_checkpoint(str(self.folder / BEST), best=True))
        if checkpoint is None:
            logger.warning(f"{self.folder / BEST} holds no averaged weights (ema): none are tested")
            return False
        load_weights_into(average.model, checkpoint, allow_other_head=False)
        return True

    def _rows(self) -> list[ResultRow]:
        return [ResultRow(**row) for row in self.progress.rows]

    def _report(self, rows: Sequence[ResultRow]) -> None:
        for row in rows:
            self.report(row)

    def _remember(self, rows: Sequence[ResultRow]) -> None:
        self.progress.rows += [row._asdict() for row in rows]

    def _publish(self) -> None:
        """results.jsonl holds exactly what the checkpoint holds: rows of an unfinished epoch are not kept."""
        self._write(self._rows())

    def _write(self, rows: Sequence[ResultRow]) -> None:
        on_main(lambda: write_rows(self.folder / RESULTS, rows))

    def _save(self) -> None:
        on_main(lambda: save_checkpoint(self.folder, self.origin, self.parts, best=self._is_best()))

    def _is_best(self) -> bool:
        return 0 < self.progress.best_epoch == self.progress.epoch


def _holds_final(path: Path, rows: Sequence[ResultRow], epoch: int) -> bool:
    """Whether a file of results holds these rows, and after them those of a final test of an epoch that is over."""
    try:
        found = read_rows(path)
    except UserError:
        return False
    same, final = found[: len(rows)] == rows, found[len(rows) :]
    tested = all(row.stage in ("test", "averaged") and (row.epoch or 0) <= epoch for row in final)
    return same and bool(final) and tested
