"""--help of every command: complete sentences, with the defaults."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import pytest

import main
from benchmarks import campaign, embed_memory, epoch, memory, methods, retrieval, step
from benchmarks import input as inputs
from benchmarks import search as searching
from benchmarks import serve as load
from tools import (
    contact_sheet,
    doctor,
    embed,
    evaluate,
    export,
    hand_over,
    make_synthetic,
    prepare,
    reproduce,
    screenshots,
    search,
    serve,
    summarize,
    visualize,
)

HOME = Path(main.__file__).parent
COMMANDS = {
    "main": main.parse,
    "benchmarks.campaign": campaign.parse,
    "benchmarks.serve": load.parse,
    "tools.contact_sheet": contact_sheet.main,
    "tools.doctor": doctor.parse,
    "tools.embed": embed.parse,
    "tools.evaluate": evaluate.parse,
    "tools.export": export.parse,
    "tools.hand_over": hand_over.parse,
    "tools.make_synthetic": lambda argv: make_synthetic.build_parser().parse_args(argv),
    "tools.prepare": prepare.parse,
    "tools.reproduce": reproduce.parse,
    "tools.screenshots": screenshots.parse,
    "tools.search": search.parse,
    "tools.serve": serve.parse,
    "tools.summarize": summarize.main,
    "tools.visualize": visualize.parse,
    **{
        f"benchmarks.{module.__name__.split('.')[1]}": module.main
        for module in (embed_memory, epoch, inputs, memory, methods, retrieval, searching, step)
    },
}


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_sentences_with_defaults(name, monkeypatch, capsys):
    parsers = []
    show = argparse.ArgumentParser.print_help
    monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda self, *a: (parsers.append(self), show(self, *a)))
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit):
        COMMANDS[name](["--help"])
    (parser,) = parsers
    assert re.match(r"[A-Z][^\n]*[.:]$", parser.description.strip().splitlines()[0])
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            text = action.help or ""
            assert re.fullmatch(r"[A-Z].*\.", text, flags=re.S), (action.dest, text)
            given = action.default not in (None, False, [])
            assert ("default: " in text) or not given, (action.dest, action.default)
    assert "pictures" not in capsys.readouterr().out
    examples = re.findall(rf"^ *python (?:-m )?{re.escape(name)}\b.*$", parser.description, flags=re.M)
    assert set(re.findall(r"--[a-z-]+", " ".join(examples))) <= set(parser._option_string_actions)


def test_every_command_has_help_that_is_tested():
    scripts = [*(HOME / "tools").glob("*.py"), *(HOME / "benchmarks").glob("*.py")]
    taking = {
        f"{path.parent.name}.{path.stem}"
        for path in scripts
        if re.search(r"add_argument\(|build_parser\(", path.read_text())
    }
    assert taking == set(COMMANDS) - {"main"}
