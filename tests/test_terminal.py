"""What people see in a terminal: log lines above bars, one clean last line, tables of 80 columns, output that fails."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from textwrap import dedent

import pytest
from tqdm import tqdm

import main
from engine.curves import Curves
from utils.logging import log_to_file, log_to_terminal, logger, stop_logging, warn_on_terminal
from utils.results import format_table
from utils.terminal import bar_options, discard, wrapped
from utils.types import ResultRow

HOME = Path(main.__file__).parent


class Screen(io.StringIO):
    """A terminal's text, as standard output and standard error at once."""

    def isatty(self) -> bool:
        return True


def shown(text: str) -> list[str]:
    """The lines that a terminal shows after this text: each carriage return writes over what stands there."""
    lines = []
    for line in text.replace("\r\n", "\n").split("\n"):
        cells: list[str] = []
        for part in re.split("\r", line):
            if part.startswith("\x1b[K"):
                cells, part = [], part.removeprefix("\x1b[K")
            cells[: len(part)] = part
        lines.append("".join(cells).rstrip())
    return lines


@pytest.fixture
def terminal(monkeypatch):
    """terminal() -> the screen, 80 columns wide, that log and bars share from now on (pytest has its own before)."""

    def start() -> Screen:
        monkeypatch.setenv("COLUMNS", "80")
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        log_to_terminal()
        return screen

    yield start
    stop_logging()


def test_log_lines_stand_above_the_bar(terminal):
    screen = terminal()
    with tqdm(total=3, desc="Epoch [1/2]: ", leave=False, mininterval=0, **bar_options()) as bar:
        for number in range(3):
            bar.update()
            logger.info(f"line {number}")
            assert "%|" in shown(screen.getvalue())[-1]
    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in shown(screen.getvalue())]
    assert lines == ["line 0", "line 1", "line 2", ""]


def test_a_bar_fits_80_columns():
    widest = tqdm.format_meter(9999, 9999, 86400, prefix="Epoch [300/300]: ", bar_format=bar_options()["bar_format"])
    assert len(widest) < 80 and widest.startswith("Epoch [300/300]")


def test_warnings_name_their_level(terminal, tmp_path):
    screen = terminal()
    log_to_file(tmp_path / "log.txt")
    logger.info("an epoch")
    logger.warning("a doubt")
    first, second, _ = shown(screen.getvalue())
    assert first.endswith(" an epoch") and re.fullmatch(r"[\d:]{8} warning: a doubt", second)
    assert (tmp_path / "log.txt").read_text().endswith(" WARNING a doubt\n")


def test_long_lines_break_at_spaces_on_a_terminal_alone(terminal, tmp_path):
    screen = terminal()
    log_to_file(tmp_path / "log.txt")
    logger.info(" ".join(["word"] * 40))
    lines = shown(screen.getvalue())[:-1]
    assert len(lines) == 3 and all(len(line) <= 80 and line.endswith("word") for line in lines)
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 1
    assert wrapped("a  table\nof  two", 8) == "a  table\nof  two"


def test_each_warning_is_said_once_beside_other_output(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    warn_on_terminal()
    for _ in range(2):
        logger.warning("split 1 is not the published one")
        logger.info("nobody asked")
    assert sys.stderr.getvalue() == "warning: split 1 is not the published one\n"
    stop_logging()


def test_a_table_fits_80_columns():
    row = ResultRow("test", 140, "sysu/indoor/10-shot", None, "test", "cosine", *[100.0] * 6)
    lines = format_table([row, row._replace(ranking="mser"), row._replace(ranking="k_reciprocal")]).splitlines()
    assert [line.split(" ")[0] for line in lines if line][::2] == ["cosine", "mser", "k_reciprocal"]
    assert max(map(len, lines)) <= 80 and all(len(line) == len(lines[0]) for line in lines if line)


def test_ctrl_c_leaves_one_clean_line():
    script = """
        import signal, sys
        from tqdm import tqdm
        from utils.cli import exit_code
        from utils.terminal import bar_options
        def work():
            bar = tqdm(total=9, desc="Epoch", **bar_options())
            bar.update()
            print("^C", end="", file=sys.stderr, flush=True)  # what the terminal shows
            signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.exit(exit_code(work))
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", dedent(script)]
    process = subprocess.Popen(command, cwd=HOME, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = b""
    with suppress(OSError):  # Linux: the other end is closed
        while part := os.read(ours, 1000):
            text += part
    os.close(ours)
    assert process.wait() == 130 and b"0/9" in text
    (line,) = [line for line in shown(text.decode()) if line]
    assert line.startswith("interrupted")


LOGS = """
    import sys
    from utils.cli import exit_code
    from utils.logging import log_to_terminal, logger
    log_to_terminal()
    sys.exit(exit_code(lambda: [logger.info("line") for _ in range(9)] and None))
"""
PRINTS = """
    import sys
    from utils.cli import exit_code
    sys.exit(exit_code(lambda: [print("line", flush=True) for _ in range(9)] and None))
"""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("script", "target", "code", "said"),
    [
        (
            LOGS,
            "full",
            0,
            "warning: the log can no longer be printed; a run's log.txt continues: No space left on device\n",
        ),
        (LOGS, "left", 0, "warning: the log can no longer be printed; a run's log.txt continues: Broken pipe\n"),
        (PRINTS, "full", 2, "error: standard output cannot be written (No space left on device)\n"),
        (PRINTS, "left", 141, ""),
        (PRINTS, "closed", 0, ""),
    ],
)
def test_output_that_cannot_be_written(script, target, code, said):
    if target == "left":
        reader, stream = os.pipe()
        os.close(reader)
    else:
        stream = os.open("/dev/full", os.O_WRONLY)
    command = ["sh", "-c", 'exec "$@"' + " >&-" * (target == "closed"), "sh", sys.executable, "-c", dedent(script)]
    done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, text=True, cwd=HOME)
    os.close(stream)
    assert (done.returncode, done.stderr) == (code, said)


def test_a_log_file_that_fails_is_said_once(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Screen())
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    log_to_terminal()
    log_to_file(Path("/dev/full"))
    for _ in range(3):
        logger.info("line")
    assert sys.stderr.getvalue() == "warning: /dev/full: the log can no longer be written: No space left on device\n"
    (file,) = (handler for handler in logger.handlers if isinstance(handler, logging.FileHandler))
    discard(file.stream)
    stop_logging()


def test_curves_whose_folder_vanishes_are_one_warning(terminal, tmp_path):
    screen = terminal()
    curves = Curves(tmp_path / "tensorboard")
    curves.add({"train/loss": 1.0}, 1)
    shutil.rmtree(tmp_path / "tensorboard")
    curves.add({"train/loss": 1.0}, 2)
    curves.add({"train/loss": 1.0}, 3)
    Curves(tmp_path / "absent" / "tensorboard").add({"train/loss": 1.0}, 1)
    assert re.sub(r"\s+", " ", screen.getvalue()).count("no more curves are kept") == 2
    assert re.sub(r"\s+", " ", screen.getvalue()).count("warning: ") == 2
