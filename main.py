"""Train and test visible-infrared person re-identification models.

python main.py --cfg configs/SYSU_MCJA.yml --gpu 0 --seed 8 --desc MCJA
"""

from __future__ import annotations

if __name__ == "__main__":  # before all that takes long to import
    from utils.interrupts import end_on_interrupt

    end_on_interrupt()

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs import cautions, load_config
from data.build import build_benchmark, build_train_loader, describe
from engine.build import build_evaluator, build_training, rankings
from engine.checkpoint import load_weights_into, open_checkpoint, require_same_split, resume_notes, tested_stage
from losses import build_criterion
from models import build_model
from utils.cli import Parser, natural, run_together
from utils.device import pick_device
from utils.logging import log_to_terminal, logger
from utils.processes import connect, on_main
from utils.results import format_table, write_rows
from utils.runs import RESULTS, hold_resumed, open_run, removed_on_failure, saying_how_to_resume
from utils.seeding import seed_everything

DEFAULT_SEED = 8


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cfg",
        default="configs/SYSU_MCJA.yml",
        help="Take keys from this yml file; the others have the defaults of docs/configuration.md (default: %(default)s).",
    )
    parser.add_argument(
        "--gpu",
        default="0",
        help="Use the GPU of this number, cpu, or mps (default: 0; ignored under torchrun, where each process has a GPU).",
    )
    parser.add_argument(
        "--seed", type=natural, help=f"Seed all random numbers with it (default: {DEFAULT_SEED}, or the resumed run's)."
    )
    parser.add_argument("--desc", help="End the run folder's name with this text (default: nothing).")
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="Override keys, such as: num_epoch 2 lr 1e-3. docs/configuration.md lists all keys.",
    )
    return parser.parse_intermixed_args(argv)


def run(argv: Sequence[str] | None) -> None:
    args = parse(argv)
    cfg = load_config(args.cfg, args.opts)
    log_to_terminal()
    device = connect(pick_device(args.gpu))
    if cfg.resume and not cfg.test_only:
        on_main(partial(hold_resumed, cfg.resume))
    checkpoint = open_checkpoint(cfg.resume, best=cfg.test_only) if cfg.resume else None
    resumed = checkpoint if checkpoint and checkpoint.origin and not cfg.test_only else None
    for line in [*cautions(cfg), *(resume_notes(resumed, cfg, args.seed) if resumed else [])]:
        logger.warning(line)
    seed = resumed.origin.seed if resumed else DEFAULT_SEED if args.seed is None else args.seed
    seed_everything(seed, cfg.deterministic)

    benchmark = build_benchmark(cfg, seed)
    model = build_model(cfg, benchmark.num_ids)
    if checkpoint:
        require_same_split(checkpoint, benchmark, cfg.test_only, cfg.allow_split_mismatch)
        load_weights_into(model, checkpoint, allow_other_head=not resumed)
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
        with saying_how_to_resume(folder):
            rows = training.run(rankings(cfg))
    logger.info(f"epoch {rows[0].epoch}, in percent:\n{format_table(rows)}")
    logger.info(f"run folder: {folder}")


if __name__ == "__main__":
    sys.exit(run_together(partial(run, None)))
