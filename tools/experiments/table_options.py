"""The options of tools.reproduce, and the cluster that they ask for."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.experiments.clusters import CLUSTERS, OPTION, Local, Slurm, read_parameters
from utils.cli import Parser, natural
from utils.errors import UserError
from utils.files import expanded


def build_parser(description: str | None) -> Parser:
    parser = Parser(prog="python -m tools.reproduce", description=description)
    table = "Make the table that this file describes, such as one of configs/tables."
    parser.add_argument("table", type=expanded, metavar="TABLE.yml", help=table)
    device = "Run on cpu or mps, or on the GPUs from cuda:N (or N alone) on (default: from the first GPU on)."
    parser.add_argument("--device", "--gpu", help=device)
    jobs = "Number of trainings at a time, each on a GPU of its own (default: 1)."
    parser.add_argument("--jobs", type=natural, default=1, metavar="N", help=jobs)
    listed = "Print the commands of the runs that are left, and start nothing."
    parser.add_argument("--print", action="store_true", help=listed)
    collected = "Write the table of the runs that are finished, and start nothing."
    parser.add_argument("--collect", action="store_true", help=collected)
    slurm = (
        'Give the runs to a SLURM cluster, with these of its parameters, such as "partition=gpu time=12:00:00"; '
        '"local" does the same with processes of this machine.'
    )
    parser.add_argument(OPTION, metavar='"KEY=VALUE ..."', help=slurm)
    later = "With --slurm, return once the runs are submitted; a later call collects."
    parser.add_argument("--no-wait", action="store_true", help=later)
    parser.add_argument("--any-code", action="store_true", help="Take finished runs of other code as they are.")
    results = "Keep runs and tables in this folder (default: results)."
    parser.add_argument("--results", type=expanded, default=Path("results"), metavar="DIR", help=results)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="Override keys in every run.")
    return parser


def cluster_of(args: argparse.Namespace) -> Slurm | Local | None:
    """The cluster of --slurm; None without. UserError for what does not go together, or cannot be had here."""
    if args.slurm is None:
        if args.no_wait:
            raise UserError(f"--no-wait belongs to {OPTION}")
        return None
    if args.print or args.jobs != 1:
        raise UserError(f"{OPTION}: leave {'--print' if args.print else '--jobs'} out; the cluster starts the runs")
    name, parameters = read_parameters(args.slurm)
    cluster = CLUSTERS[name](parameters)
    cluster.require()
    return cluster
