"""Running a table: what is left to do, failures, locks, a kill and a new start, the commands for a scheduler."""

from __future__ import annotations

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from unittest.mock import ANY

import pytest
import yaml

import main
from configs import load_config
from data.sets import DATASETS
from tests.conftest import TINY
from tools import reproduce
from tools.experiments.commands import command, shell_lines, unfinished
from tools.experiments.folders import final_rows, home_of, last_line, progress, take
from tools.experiments.launch import Launcher, duration, time_left
from tools.experiments.older import describe_older, older_runs, taking_older
from tools.experiments.plan import Job, Plan, PlannedRun
from tools.experiments.surroundings import precision_of, slots_of
from tools.report import gallery
from utils.errors import UserError

HOME = Path(main.__file__).parent
# A run in a few milliseconds: its folder with a checkpoint, then the rows of its final test.
RECORD = {
    "seed": 8,
    "device": "cpu",
    "data": {"fingerprint": "f", "root": "r", "chance_r1": {}},
    "git": {"commit": "c" * 40, "modified": False},
}
FAKE = (
    f"""
RECORD, PROTOCOLS = {RECORD!r}, {DATASETS["sysu"].protocols!r}
"""
    + """
import json, sys, time
from pathlib import Path
home, how = Path(sys.argv[1]), sys.argv[2]
folder = home / "sysu" / "run"
folder.mkdir(parents=True, exist_ok=True)
for name in ("config.yml", "log.txt", "last.pth"):
    (folder / name).write_text("{}")
(folder / "run.json").write_text(json.dumps(RECORD))
print("began", how)
if how == "fails":
    sys.exit("error: epoch 3: training diverged")
if how == "slow":
    time.sleep(1.5)
row = {"stage": "test", "epoch": 1, "split": None, "selected_on": "last"}
row |= dict.fromkeys(("r1", "r5", "r10", "r20", "mAP", "mINP"), 50.0)
rows = [{**row, "protocol": name, "ranking": ranking} for name in PROTOCOLS for ranking in ("cosine", "mser")]
text = "".join(json.dumps(row) + "\\n" for row in rows)
if how != "empty":
    (folder / "results.jsonl").write_text(text)
"""
)
TRAINED, TESTED, OTHER = (
    Job("aaa", "whole, seed 8", "configs/Demo.yml", ("num_epoch", "1"), 8, None),
    Job("bbb", "k1 = 3, seed 8", "configs/Demo.yml", ("mser_k1", "3"), 8, "aaa"),
    Job("ccc", "other, seed 8", "configs/Demo.yml", (), 8, None),
)


def fake(job: Job, results: Path, gpu: str, so_far, model: str | None, how=()) -> list[str]:
    """Instead of `command`; how: what happens to the jobs of some identities."""
    return [sys.executable, "-c", FAKE, str(home_of(results, job.identity)), dict(how).get(job.identity, "works")]


@pytest.fixture
def launch(tmp_path):
    """launch(jobs, **how) -> (failures, what was said); one fake run at a time."""

    def run(jobs, slots=("cpu",), **how):
        said = []
        return Launcher(tmp_path, slots, len(jobs), said.append, partial(fake, how=tuple(how.items()))).run(jobs), said

    return run


def make_run(results: Path, identity: str, name: str = "run", checkpoint: bool = True, rows: bool = True) -> Path:
    """A made-up run folder."""
    if rows:
        subprocess.run([sys.executable, "-c", FAKE, str(home_of(results, identity)), "works"], check=True)
        (home_of(results, identity) / "sysu" / "run").rename(home_of(results, identity) / "sysu" / name)
    folder = home_of(results, identity) / "sysu" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(RECORD))
    (folder / "last.pth").write_text("")
    if not checkpoint:
        (folder / "last.pth").unlink()
    return folder


# ---------------------------------------------------------------------------------------------------------- run folders


def test_how_far_a_run_is(tmp_path):
    home = home_of(tmp_path, "aaa")
    assert progress(home) == ("absent", None, "")
    stale = make_run(tmp_path, "aaa", "killed early", checkpoint=False, rows=False)
    assert progress(home) == ("absent", stale, "")
    begun = make_run(tmp_path, "aaa", "begun", rows=False)
    assert progress(home) == ("interrupted", begun, "")
    done = make_run(tmp_path, "aaa", "done")
    make_run(tmp_path, "aaa", "killed later", checkpoint=False, rows=False)
    assert progress(home) == progress(home, with_model=True) == ("finished", done, "")


def test_a_finished_run_without_its_model_cannot_be_tested_again(tmp_path):
    folder = make_run(tmp_path, "aaa", checkpoint=False)
    assert progress(home_of(tmp_path, "aaa")) == ("finished", folder, "")
    assert progress(home_of(tmp_path, "aaa"), with_model=True).state == "absent"


@pytest.mark.parametrize("damage", ["", "no json\n", '{"stage": "test"}\n'])
def test_damaged_results_are_no_results(tmp_path, damage):
    (make_run(tmp_path, "aaa") / "results.jsonl").write_text(damage)
    assert progress(home_of(tmp_path, "aaa")).state == "interrupted"


def test_a_final_test_without_mser_is_not_what_a_table_needs(tmp_path):
    results = make_run(tmp_path, "aaa") / "results.jsonl"
    results.write_text(results.read_text().splitlines(keepends=True)[0])
    assert progress(home_of(tmp_path, "aaa")).state == "interrupted"


def test_what_is_left_to_do(tmp_path):
    jobs = [TRAINED, TESTED, OTHER]
    assert unfinished(jobs, tmp_path) == jobs
    make_run(tmp_path, "aaa", checkpoint=False)
    make_run(tmp_path, "ccc", checkpoint=False)
    assert unfinished(jobs, tmp_path) == [TRAINED, TESTED]  # the test needs the model again
    make_run(tmp_path, "bbb", checkpoint=False)
    assert unfinished(jobs, tmp_path) == []


def test_the_last_line_of_a_run(tmp_path):
    assert last_line(tmp_path) == ""
    (tmp_path / "output.txt").write_text("loading\n 10%\r 20%\rerror: no space left\n\n")
    assert last_line(tmp_path) == "no space left"


@pytest.mark.parametrize(
    "name, content", [("run.json", "null"), ("run.json", "{"), ("results.jsonl", "NaN"), ("results.jsonl", "\xff")]
)
def test_a_run_with_an_unreadable_file_is_done_again(launch, tmp_path, name, content):
    folder = make_run(tmp_path, "aaa", checkpoint=name == "run.json", rows=name != "run.json")
    (folder / name).write_bytes(content.encode("latin-1"))
    so_far = progress(home_of(tmp_path, "aaa"))
    assert so_far.state == "absent" and str(folder) in so_far.fault and name in so_far.fault
    failures, said = launch([TRAINED, OTHER])
    assert not failures and "] whole, seed 8: trains again, since " + so_far.fault in said[0]


def test_a_run_of_other_code(tmp_path):
    jobs = [
        job._replace(identity=f"{job.identity}-1", model=job.model and f"{job.model}-1")
        for job in (TRAINED, TESTED, OTHER)
    ]
    make_run(tmp_path, "aaa-0", "older")
    make_run(tmp_path, "aaa-00", "newer")
    make_run(tmp_path, "aaa-000", "unfinished", rows=False)
    make_run(tmp_path, "bbbb-0")
    make_run(tmp_path, "ccc-1")
    found = older_runs(unfinished(jobs, tmp_path), tmp_path)
    assert {name: (run.identity, run.commit) for name, run in found.items()} == {"aaa-1": ("aaa-00", "ccccccc")}
    assert (
        describe_older(found, False)
        == "1 finished run is of other code (commit ccccccc); --any-code takes what is there"
    )
    plan = taking_older(
        Plan(None, tuple(jobs), ((PlannedRun("seed 8", "aaa-1"), PlannedRun("seed 8", "bbb-1")),)), found
    )
    assert [(job.identity, job.model) for job in plan.jobs] == [
        ("aaa-00", None), ("bbb-1.00", "aaa-00"), ("ccc-1", None),
    ]  # fmt: skip
    assert [run.identity for run in plan.rows[0]] == ["aaa-00", "bbb-1.00"]
    assert [job.identity for job in unfinished(plan.jobs, tmp_path)] == ["bbb-1.00"]


def test_a_model_of_other_code_without_its_checkpoint_is_not_tested(tmp_path):
    make_run(tmp_path, "aaa-0", checkpoint=False)
    trained, tested = TRAINED._replace(identity="aaa-1"), TESTED._replace(identity="bbb-1", model="aaa-1")
    assert not older_runs([trained, tested], tmp_path)
    make_run(tmp_path, "bbb-0", checkpoint=False)
    assert {name: run.identity for name, run in older_runs([trained, tested], tmp_path).items()} == {
        "aaa-1": "aaa-0", "bbb-1": "bbb-0",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- commands


def test_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "python")
    begin, home = "python main.py --cfg configs/Demo.yml --gpu 1 --seed 8", home_of(tmp_path, "aaa")
    fresh = command(TRAINED, tmp_path, "1", progress(home), None)
    assert shlex.join(fresh) == f"{begin} num_epoch 1 output_dir {home}"
    folder = make_run(tmp_path, "aaa", rows=False)
    again = command(TRAINED, tmp_path, "1", progress(home), None)
    assert again == [*fresh, "resume", str(folder)]
    test = command(TESTED, tmp_path, "1", progress(home_of(tmp_path, "bbb")), str(folder))
    assert test[-4:] == ["test_only", "true", "resume", str(folder)] and "output_dir" in test


def test_the_command_of_a_test_tests_a_model(run_main, trained, sysu_root, tmp_path):
    job = TESTED._replace(options=(*TINY[4:], "data_root", str(sysu_root), *TESTED.options))
    assert run_main(*command(job, tmp_path, "cpu", progress(tmp_path), str(trained))[2:]) == 0
    state, folder, _ = progress(home_of(tmp_path, "bbb"))
    assert state == "finished" and "mser_k1: 3\n" in (folder / "config.yml").read_text()
    cosine, mser = ([row.r1 for row in final_rows(folder) if row.ranking == name] for name in ("cosine", "mser"))
    assert cosine == [row.r1 for row in final_rows(trained) if row.ranking == "cosine"] and cosine != mser


def test_commands_for_a_scheduler(tmp_path):
    lines = shell_lines([TRAINED, TESTED, OTHER], tmp_path, "0")
    assert [f"runs/{name}" in line.split("output_dir")[1] for name, line in zip(("aaa", "ccc", "bbb"), lines)] == [
        True
    ] * 3
    make_run(tmp_path, "aaa", "an older one", rows=False)
    time.sleep(0.01)
    folder = make_run(tmp_path, "aaa")
    words = lines[2].rsplit("resume ", 1)[1]
    found = subprocess.run(["sh", "-c", f"printf %s {words}"], capture_output=True, text=True).stdout
    assert found.rstrip("/") == str(folder)
    assert lines[2].rsplit("resume ", 1)[0].endswith("test_only true ")
    assert shell_lines([TESTED], tmp_path, "0")[0].endswith(f"test_only true resume {folder}")


# -------------------------------------------------------------------------------------------------------------- running


def test_runs_one_after_another(launch, tmp_path):
    failures, said = launch([TRAINED, TESTED, OTHER])
    assert failures == {}
    assert [line.split(": ")[0] for line in said] == [
        "[0/3] whole, seed 8", "[1/3] whole, seed 8", "[1/3] k1 = 3, seed 8", "[2/3] k1 = 3, seed 8",
        "[2/3] other, seed 8", "[3/3] other, seed 8",
    ]  # fmt: skip
    assert all(" finished in " in line for line in said[1::2]) and " left" in said[1] and " left" not in said[-1]
    assert "trains" in said[0] and "tests" in said[2]
    assert (home_of(tmp_path, "aaa") / "output.txt").read_text() == "began works\n"


def test_a_failure_stops_what_depends_on_it_and_nothing_else(launch, tmp_path):
    failures, said = launch([TRAINED, TESTED, OTHER], aaa="fails")
    output = home_of(tmp_path, "aaa") / "output.txt"
    assert failures == {
        "aaa": f"epoch 3: training diverged ({output})", "bbb": "the model that it tests was not trained",
    }  # fmt: skip
    assert progress(home_of(tmp_path, "ccc")).state == "finished"
    assert not home_of(tmp_path, "bbb").exists()
    assert f"[1/3] whole, seed 8: failed: epoch 3: training diverged ({output})" in said


def test_a_run_that_ends_without_results_has_failed(launch, tmp_path):
    failures, _ = launch([OTHER], ccc="empty")
    assert failures == {"ccc": f"began empty ({home_of(tmp_path, 'ccc') / 'output.txt'})"}


def test_several_at_a_time_and_a_test_still_waits_for_its_model(launch):
    failures, said = launch([TRAINED, TESTED, OTHER], slots=("0", "1"), aaa="slow")
    assert failures == {}
    order = [line.split("] ")[1].split(", ")[0] for line in said]
    assert order[:3] == ["whole", "other", "other"] and order[3:] == ["whole", "k1 = 3", "k1 = 3"]


def test_a_run_that_another_process_is_at(launch, tmp_path):
    lock = take(home_of(tmp_path, "aaa"))
    assert take(home_of(tmp_path, "aaa")) is None
    said = []

    def say(line: str) -> None:
        said.append(line)
        if "waiting" in line:  # the other process ends its run
            make_run(tmp_path, "aaa")
            lock.close()

    assert Launcher(tmp_path, ["cpu"], 1, say, fake).run([TRAINED]) == {}
    assert said == [
        f"[0/1] whole, seed 8: another process is at it ({home_of(tmp_path, 'aaa')}); waiting for its end",
        "[1/1] whole, seed 8: finished by another process",
    ]


def test_a_file_system_without_locks(launch, tmp_path, monkeypatch):
    def none(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("utils.locks.fcntl.flock", none)
    assert launch([TRAINED]) == ({}, ANY)
    assert progress(home_of(tmp_path, "aaa")).state == "finished"


def test_what_runs_is_ended_with_its_runner(tmp_path):
    def say(line: str) -> None:
        if "trains" in line:
            raise KeyboardInterrupt

    launcher = Launcher(tmp_path, ["cpu"], 1, say, partial(fake, how=(("aaa", "slow"),)))
    with pytest.raises(KeyboardInterrupt):
        launcher.run([TRAINED])
    assert launcher.running[0].process.returncode != 0
    assert progress(home_of(tmp_path, "aaa")).state != "finished"


def test_a_killed_runner_leaves_its_run_locked_until_that_ends(launch, tmp_path):
    script = f"""
import sys
from functools import partial
from pathlib import Path
from tests.test_reproduce import TRAINED, Launcher, fake
Launcher(Path({str(tmp_path)!r}), ["cpu"], 1, partial(print, flush=True), partial(fake, how=(("aaa", "slow"),))).run([TRAINED])
"""
    runner = subprocess.Popen([sys.executable, "-c", script], cwd=HOME, stdout=subprocess.PIPE, text=True)
    assert "trains" in runner.stdout.readline()
    runner.kill()
    runner.wait()
    failures, said = launch([TRAINED])
    assert failures == {} and "another process is at it" in said[0] and said[1].endswith("finished by another process")


def test_time_left():
    assert time_left([TRAINED, OTHER], {False: [], True: []}, 1) == 0
    assert time_left([TRAINED, OTHER], {False: [50, 70], True: []}, 1) == 120
    assert time_left([TRAINED, TESTED, TESTED], {False: [60], True: [5]}, 2) == 35
    assert time_left([TESTED], {False: [60], True: []}, 1) == 60


@pytest.mark.parametrize(
    "seconds, text",
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (112, "1 min 52 s"), (2100, "35 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def table(tmp_path, sysu_root, monkeypatch):
    """table(**fields) -> the arguments of a table on the tiny synthetic data set, its results below tmp_path."""
    monkeypatch.chdir(HOME)
    fields = {
        "title": "Small", "cfg": "configs/Demo.yml", "seeds": [8], "protocols": ["sysu/all/1-shot"], "metrics": ["r1"],
        "rows": [{"name": "whole"}],
    }  # fmt: skip
    monkeypatch.setattr(gallery, "run_figures", lambda folder, device: [])

    def write(**changed) -> list[str]:
        path = tmp_path / "small.yml"
        path.write_text(yaml.safe_dump({**fields, **changed}))
        keys = ["data_root", str(sysu_root), *TINY[4:], "eval_initial", "false"]
        return [str(path), "--device", "cpu", "--results", str(tmp_path / "results"), *keys]

    return write


def use_fakes(monkeypatch, **how) -> None:
    monkeypatch.setattr(reproduce, "Launcher", partial(Launcher, prepare=partial(fake, how=tuple(how.items()))))


def test_the_table_at_the_end_and_nothing_to_do_the_second_time(table, tmp_path, monkeypatch, capsys):
    use_fakes(monkeypatch)
    assert reproduce.main(table()) == 0
    printed = capsys.readouterr().out
    assert ": 0 of 1 runs are finished\n" in printed and "| whole |" in printed and "50.00" in printed
    folder = tmp_path / "results" / "small"
    for name in ("table.md", "table.tex", "table.csv", "report.html"):
        assert f"\n{folder / name}\n" in printed
    before = (folder / "table.md").read_text()
    monkeypatch.setattr(reproduce, "Launcher", None)
    assert reproduce.main(table()) == 0
    assert ": 1 of 1 runs are finished, nothing to do\n" in capsys.readouterr().out
    assert (folder / "table.md").read_text() == before


def test_exit_code_of_a_table_with_a_failed_run(table, tmp_path, monkeypatch, capsys):
    arguments = table(seeds=[8, 9])
    reproduce.main([*arguments, "--print"])
    words = shlex.split(capsys.readouterr().out.splitlines()[2])
    failing = Path(words[words.index("output_dir") + 1]).name
    use_fakes(monkeypatch, **{failing: "fails"})
    assert reproduce.main(arguments) == 1
    assert "not finished: whole, seed 9: failed: epoch 3: training diverged" in capsys.readouterr().out
    use_fakes(monkeypatch)
    assert reproduce.main(arguments) == 0  # the failed run is tried again


def test_finished_runs_of_other_code_are_counted_and_taken(table, tmp_path, monkeypatch, capsys):
    use_fakes(monkeypatch)
    assert reproduce.main(table()) == 0
    capsys.readouterr()
    monkeypatch.setattr(reproduce, "Launcher", None)
    monkeypatch.setattr(reproduce, "code_hash", lambda home: "0" * 64)
    line = "1 finished run is of other code (commit ccccccc)"
    assert reproduce.main([*table(), "--print"]) == 0
    printed = capsys.readouterr().out
    assert f"# {line}; --any-code takes what is there\n" in printed and "main.py --cfg" in printed
    assert reproduce.main([*table(), "--any-code"]) == 0
    printed = capsys.readouterr().out
    assert (
        ": 1 of 1 runs are finished, nothing to do\n" in printed and f"\n{line}: taken, as --any-code asks\n" in printed
    )
    assert "50.00" in printed


def test_precision_is_what_the_machine_makes_of_the_keys(monkeypatch):
    monkeypatch.chdir(HOME)
    auto, none, brain = (
        load_config("configs/Demo.yml", ["fp16", "true", "amp_dtype", name]) for name in ("auto", "none", "bf16")
    )
    on_cpu = precision_of("cpu")
    assert [on_cpu(cfg) for cfg in (auto, none, brain)] == ["float32", "float32", "bfloat16"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    elsewhere = precision_of("0")
    assert [elsewhere(cfg) for cfg in (auto, none, brain)] == ["auto", "float32", "bfloat16"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for supported, name in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation, known=supported: known)
        assert precision_of("0")(auto) == name


def test_a_mac_s_gpu_computes_in_float32(monkeypatch):
    monkeypatch.chdir(HOME)
    assert slots_of("mps", 2, elsewhere=False) == ["mps", "mps"]
    assert precision_of("mps")(load_config("configs/Demo.yml", ["fp16", "true"])) == "float32"


def test_each_job_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for first in ("cuda", "cuda:0", "0", None):
        assert slots_of(first, 2, elsewhere=False) == ["0", "1"]
    assert slots_of("cuda:1", 2, elsewhere=True) == ["1", "2"]
    with pytest.raises(UserError, match="--device cuda:1 --jobs 2: there are 2 GPUs"):
        slots_of("cuda:1", 2, elsewhere=False)


def test_a_warning_is_said_once(regdb_root, table, capsys):
    rows = {"protocols": ["regdb/v2i"], "keys": {"dataset": "regdb"}, "splits": [1, 2]}
    arguments = [regdb_root if str(word).endswith("data") else word for word in table(**rows)]
    assert reproduce.main([*map(str, arguments), "--print"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines and len(set(lines)) == len(lines) and all(line.startswith("warning: ") for line in lines)


def test_printing_starts_nothing(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "Launcher", None)
    assert reproduce.main([*table(), "--print", "--gpu", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("#") and len(lines) == 2 and all("main.py --cfg" in line for line in lines[1:])
    assert not (tmp_path / "results").exists()


def test_collecting_starts_nothing(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "Launcher", None)
    assert reproduce.main([*table(), "--collect"]) == 0
    assert "0 of 1" in (tmp_path / "results" / "small" / "table.md").read_text()


@pytest.mark.parametrize("arguments, said", [
    (["configs/tables/none.yml"], "configs/tables/none.yml: cannot be read"),
    (["configs/tables/main_sysu.yml", "data_root", "/nowhere"], "data_root /nowhere: no such folder"),
    (["configs/tables/main_sysu.yml", "--jobs", "0"], "--jobs 0: give 1 or more"),
    (["configs/tables/main_sysu.yml", "--gpu", "0,1"], "--device 0,1: give cpu, cuda, cuda:N or mps"),
    (["configs/tables/main_sysu.yml", "lr"], "overrides come in pairs"),
    ([], "the following arguments are required: TABLE.yml"),
])  # fmt: skip
def test_bad_input_is_one_line(monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(HOME)
    assert reproduce.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_killed_in_the_middle_and_started_again(table, tmp_path, waiting, capfd):
    """A real run: interrupted in its second epoch, the training resumes in its folder."""
    arguments = table()

    def interrupt() -> None:
        while not list(tmp_path.glob("results/runs/*/sysu/*/last.pth")):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert reproduce.main(arguments) == 130
    printed, error = capfd.readouterr()
    assert error.endswith("interrupted; run the same command again to resume\n") and "Traceback" not in error
    assert reproduce.main(arguments) == 0
    assert ": resumes; " in capfd.readouterr().out
    (training,) = tmp_path.glob("results/runs/*/sysu/*")
    row = next(row for row in final_rows(training) if (row.protocol, row.ranking) == ("sysu/all/1-shot", "mser"))
    text = (tmp_path / "results" / "small" / "table.md").read_text()
    assert f"[{row.r1:.2f}](#runs-1)" in text and f"[{row.r1:.2f}](../runs/" in text
