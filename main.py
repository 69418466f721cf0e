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

from configs.command import parse
from data.build import build_benchmark, build_train_loader, describe
from engine.average import evaluate_checkpoint, format_tables
from engine.build import build_evaluator, build_training, rankings
from engine.start import Start, build_network, build_start
from utils.cli import run_together
from utils.device import pick_device
from utils.logging import log_to_terminal, logger
from utils.processes import connect, on_main
from utils.results import write_rows
from utils.runs import RESULTS, open_run, removed_on_failure, working_in
from utils.seeding import seed_everything


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    log_to_terminal()
    device = connect(pick_device(args.gpu, "--gpu"))
    start = build_start(args.cfg, args.opts, args.seed)
    seed_everything(start.seed, start.cfg.deterministic)
    benchmark = build_benchmark(start.cfg, start.seed)
    model = build_network(start, benchmark).to(device)
    test = build_evaluator(start.cfg, benchmark, benchmark.test, device)
    data = describe(start.cfg, benchmark, test.chance())
    record = {"command": sys.argv, "seed": start.seed, "device": str(device), "data": data}
    loader = None if start.cfg.test_only else build_train_loader(start.cfg, benchmark, start.seed, device)
    folder = on_main(partial(open_folder, start, args.desc, record), received=Path)
    if loader is None:
        with removed_on_failure(folder):
            rows = evaluate_checkpoint(test, model, start.checkpoint, rankings(start.cfg))
            on_main(partial(write_rows, folder / RESULTS, rows))
    else:
        training = build_training(start.cfg, benchmark, model, loader, test, folder, start.seed, device, start.resumed)
        with working_in(folder):
            rows = training.run(rankings(start.cfg))
    epoch = "not known" if rows[0].epoch is None else rows[0].epoch
    logger.info(f"epoch {epoch}, in percent:\n{format_tables(rows)}")
    logger.info(f"run folder: {folder}")


def open_folder(start: Start, desc: str | None, record: dict) -> Path:
    """The folder of the resumed run, or a new one."""
    where = (start.cfg.output_dir, start.cfg.dataset, start.cfg.prefix, desc)
    return open_run(start.resumed and start.resumed.folder, where, start.cfg.dump(), record)


if __name__ == "__main__":
    sys.exit(run_together(partial(run, None)))
