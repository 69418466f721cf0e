"""Which jobs are left to do, and the command lines that do them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.experiments.folders import Progress, home_of, progress
from tools.experiments.plan import Job


def unfinished(jobs: Sequence[Job], results: Path) -> list[Job]:
    """Those that have to run: without a final test, or without the model that another one is to test."""
    needed = {job.model for job in jobs if job.model and progress(home_of(results, job.identity)).state != "finished"}
    return [job for job in jobs if progress(home_of(results, job.identity), job.identity in needed).state != "finished"]


def command(job: Job, results: Path, gpu: str, so_far: Progress, model: str | None) -> list[str]:
    """The command line that starts a job or resumes it. model: the run folder or checkpoint that it tests."""
    words = [sys.executable, "main.py", "--cfg", job.cfg, "--gpu", gpu, "--seed", str(job.seed), *job.options]
    words += ["output_dir", str(home_of(results, job.identity))]
    if model is not None:
        return [*words, "test_only", "true", "resume", model]
    return [*words, "resume", str(so_far.folder)] if so_far.state == "interrupted" else words


def shell_lines(jobs: Sequence[Job], results: Path, gpu: str) -> list[str]:
    """The commands of unfinished jobs for a shell or a scheduler, in an order that works."""
    lines = []
    for job in sorted(jobs, key=lambda job: job.model is not None):
        so_far = progress(home_of(results, job.identity))
        model = None if job.model is None else progress(home_of(results, job.model), with_model=True)
        if model is None or model.state == "finished":
            lines.append(shlex.join(command(job, results, gpu, so_far, model and str(model.folder))))
        else:  # its folder's name will tell when it was started
            newest = f'"$(ls -dt {shlex.quote(str(home_of(results, job.model)))}/*/*/ | head -n 1)"'
            lines.append(shlex.join(command(job, results, gpu, so_far, "MODEL"))[: -len("MODEL")] + newest)
    return lines
