"""Train and test visible-infrared person re-identification models.

python main.py --cfg configs/SYSU_MCJA.yml --gpu 0 --seed 8 --desc MCJA
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes long to import
    from utils.interrupts import end_on_interrupt

    end_on_interrupt()

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from yacs.config import CfgNode

from configs import cautions, configuration, given_keys
from configs.command import DEFAULT_CFG, DEFAULT_SEED, parse
from data.build import build_benchmark, build_train_loader, describe
from engine.build import build_evaluator, build_training, rankings
from engine.checkpoint import (
    Checkpoint,
    load_weights_into,
    open_checkpoint,
    require_same_split,
    resume_notes,
    tested_stage,
)
from losses import build_criterion
from models import build_model
from utils.cli import run_together
from utils.device import pick_device
from utils.logging import log_to_terminal, logger
from utils.processes import connect, on_main
from utils.results import format_table, write_rows
from utils.runs import RESULTS, hold_resumed, open_run, removed_on_failure, working_in
from utils.seeding import seed_everything


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    log_to_terminal()
    device = connect(pick_device(args.gpu, "--gpu"))
    cfg, checkpoint = open_asked(args.cfg, args.opts)
    own = checkpoint if checkpoint and checkpoint.origin else None  # of a run, not weights alone
    for line in [*cautions(cfg), *(resume_notes(own, cfg, args.seed, cfg.test_only) if own else [])]:
        logger.warning(line)
    resumed = None if cfg.test_only else own
    seed = resumed.origin.seed if resumed else DEFAULT_SEED if args.seed is None else args.seed
    seed_everything(seed, cfg.deterministic)

    benchmark = build_benchmark(cfg, seed)
    model = build_model(cfg, benchmark.num_ids)
    if checkpoint:
        require_same_split(checkpoint, benchmark, cfg.test_only, cfg.allow_split_mismatch)
        load_weights_into(model, checkpoint, allow_other_head=not resumed, config=cfg)
    model.to(device)
    test = build_evaluator(cfg, benchmark, benchmark.test, device)
    record = {"command": sys.argv, "seed": seed, "device": str(device), "data": describe(cfg, benchmark, test.chance())}
    where = (cfg.output_dir, cfg.dataset, cfg.prefix, args.desc)

    if cfg.test_only:
        folder = on_main(partial(open_run, None, where, cfg.dump(), record), received=Path)
        with removed_on_failure(folder):
            rows = test(model, tested_stage(checkpoint), rankings(cfg))
            on_main(partial(write_rows, folder / RESULTS, rows))
    else:
        loader, criterion = build_train_loader(cfg, benchmark, seed, device), build_criterion(cfg, benchmark.num_ids)
        folder = on_main(partial(open_run, resumed and resumed.folder, where, cfg.dump(), record), received=Path)
        training = build_training(cfg, benchmark, model, loader, criterion, test, folder, seed, device, resumed)
        with working_in(folder):
            rows = training.run(rankings(cfg))
    epoch = "not known" if rows[0].epoch is None else rows[0].epoch
    logger.info(f"epoch {epoch}, in percent:\n{format_table(rows)}")
    logger.info(f"run folder: {folder}")


def open_asked(path: str | None, opts: Sequence[str]) -> tuple[CfgNode, Checkpoint | None]:
    """The configuration, and what `resume` names. A run's own configuration is the base of what is given."""
    given = given_keys(path, opts)
    source, testing = given.get("resume"), given.get("test_only", False)
    if source and not testing:
        on_main(partial(hold_resumed, source))
    checkpoint = open_checkpoint(source, best=testing) if source else None
    if checkpoint and checkpoint.origin:
        return configuration(given, (str(checkpoint.path), checkpoint.origin.config)), checkpoint
    return configuration(given if path else {**given_keys(DEFAULT_CFG, ()), **given}), checkpoint


if __name__ == "__main__":
    sys.exit(run_together(partial(run, None)))
