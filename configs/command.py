"""The command line of main.py."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from configs.defaults import KEYS
from utils.cli import Parser, natural
from utils.errors import UserError
from utils.yml import fault_of_name, quoted

DEFAULT_CFG = Path(__file__).parent / "SYSU_MCJA.yml"
DEFAULT_SEED = 8
DESCRIPTION = """Train and test visible-infrared person re-identification models.

python main.py --cfg configs/SYSU_MCJA.yml --gpu 0 --seed 8 --desc MCJA
python main.py resume RUN
python main.py test_only true resume RUN
"""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments: cfg and seed (None where not given), gpu, desc and opts. UserError for others."""
    parser = Parser(prog="main.py", description=DESCRIPTION)
    parser.add_argument(
        "--cfg",
        help="Take keys from this yml file; the others have the defaults of docs/configuration.md, or the values of "
        f"the run that `resume` names (default: configs/{DEFAULT_CFG.name}; nothing with such a run).",
    )
    parser.add_argument(
        "--gpu",
        default="0",
        help="Use the GPU of this number (or cuda:N), cpu, or mps (default: 0; ignored under torchrun, where "
        "each process has a GPU).",
    )
    parser.add_argument(
        "--seed",
        type=natural,
        help=f"Seed all random numbers with it (default: {DEFAULT_SEED}, or the resumed or tested run's).",
    )
    parser.add_argument("--desc", type=_name, help="End the run folder's name with this text (default: nothing).")
    parser.add_argument(
        "opts",
        nargs="*",
        metavar="KEY VALUE",
        help="Override keys, such as: num_epoch 2 lr=1e-3. docs/configuration.md lists all keys.",
    )
    args, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        way = f"write {name} VALUE" if name in KEYS else "--help lists the arguments"
        raise UserError(f"unknown argument {quoted(unknown[0])}; {way}")
    return args


def _name(text: str) -> str:
    fault = fault_of_name(text)
    if fault:
        raise argparse.ArgumentTypeError(f"{quoted(text)} {fault}")
    return text
