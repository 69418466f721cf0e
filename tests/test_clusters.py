"""Runs given to a cluster: its parameters, what is submitted once, what follows what, and how failures are said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.test_reproduce import HOME, OTHER, TESTED, TRAINED, make_run, table  # noqa: F401
from tools import reproduce
from tools.experiments.clusters import Local, Slurm, minutes, read_parameters
from tools.experiments.folders import home_of, take
from tools.experiments.submit import Submitter
from tools.experiments.work import DEAF, Work, _deaf_command
from utils.errors import UserError

# ----------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize("text, expected", [
    ("30", 30), ("30:01", 31), ("12:00:00", 720), ("0:00:30", 1), ("1-12", 2160), ("1-12:30", 2190), ("1-0:0:1", 1441),
])  # fmt: skip
def test_times_as_slurm_writes_them(text, expected):
    assert minutes(text) == expected


def test_parameters_are_of_submitit_s_types():
    text = "partition=gpu time=1-0 gpus-per-node=a100:1 setup='module load cuda' exclusive=true srun_args='-v -l'"
    assert read_parameters(text) == ("slurm", {
        "partition": "gpu", "time": 1440, "gpus_per_node": "a100:1", "setup": ["module load cuda"], "exclusive": True,
        "srun_args": ["-v", "-l"],
    })  # fmt: skip
    assert read_parameters("local") == read_parameters("cluster=local") == ("local", {})


@pytest.mark.parametrize("text, said", [
    ("", "time is missing: how long a run may take at most, such as time=12:00:00"),
    ("time=5 gpu", "'gpu' is not KEY=VALUE, such as partition=gpu"),
    ("time=5 partition=", "'partition=' is not KEY=VALUE"),
    ("time=5 partition='a\nb'", "is not KEY=VALUE"),
    ("time=5 partitoin=gpu", "the key = 'partitoin' is unknown; choose one of: account, "),
    ("time=5 time=6", "time is given twice"),
    ("time=soon", "time=soon: write minutes, hours:minutes:seconds, or days-hours"),
    ("time=0", "time=0: give a time above 0"),
    ("time=5 signal_delay_s=-1", "signal_delay_s=-1: give a number of seconds"),
    ("time=5 comment='a", "No closing quotation"),
    ("cluster=pbs", "cluster = 'pbs' is unknown; choose one of: local, slurm"),
    ("local gpus_per_node=two", "gpus_per_node=two: give a number"),
])  # fmt: skip
def test_a_wrong_parameter_is_said(text, said):
    with pytest.raises(UserError) as error:
        name, parameters = read_parameters(text)
        Local(parameters)
    assert str(error.value).startswith("--slurm: ") and said in str(error.value)


@pytest.mark.parametrize("arguments, said", [
    (["--no-wait"], "--no-wait belongs to --slurm"),
    (["--slurm", "time=5", "--jobs", "2"], "--slurm: leave --jobs out"),
    (["--slurm", "time=5", "--print"], "--slurm: leave --print out"),
    (["--slurm", "time=5"], '--slurm: there is no sbatch on this machine; run the command where jobs are submitted, '
     'or try it here with --slurm "local"'),
])  # fmt: skip
def test_what_does_not_go_together_is_one_line(table, tmp_path, monkeypatch, capsys, arguments, said):  # noqa: F811
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reproduce.main([*table(), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
    assert not (tmp_path / "results").exists()


# ------------------------------------------------------------------------------------------------------------ following


class Fake:
    """A cluster whose jobs wait, run and finish, one step a look; acts: how the jobs of some numbers end instead."""

    name, poll, patience = "slurm", 0.0, 0.0

    def __init__(self, results: Path, acts=(), chains=True):
        self.results, self.acts, self.chains = results, dict(acts), chains
        self.submitted: list[tuple[str, str | None]] = []  # identity, after
        self.ways: dict[str, list[str]] = {}
        self.works: dict[str, Work] = {}
        self.silent = 0  # looks that get no answer

    def submit(self, work, folder, title, after):
        number = str(len(self.submitted) + 1)
        self.submitted.append((work.job.identity, after))
        self.ways[number], self.works[number] = ["PENDING", "RUNNING", "RUNNING"], work
        return number

    def states(self, jobs):
        if self.silent:
            self.silent -= 1
            raise UserError("--slurm: squeue does not answer (timed out)")
        return {job: self._next(job) for job in jobs}

    def _next(self, job: str) -> str:
        if way := self.ways.get(job):
            return way.pop(0)
        if job in self.acts:
            return self.acts[job]
        make_run(self.results, self.works[job].job.identity)
        return "COMPLETED"


@pytest.fixture
def submit(tmp_path):
    """submit(cluster, jobs, **how) -> (failures, what was said)."""

    def run(cluster, jobs, **how):
        said = []
        submitter = Submitter(cluster, tmp_path, "cpu", len(jobs), said.append, HOME, "code")
        return submitter.run(jobs, **how), said

    return run


def test_all_runs_are_submitted_and_followed_and_a_test_starts_after_its_model(submit, tmp_path):
    cluster = Fake(tmp_path)
    failures, said = submit(cluster, [TRAINED, TESTED, OTHER])
    assert failures == {} and cluster.submitted == [("aaa", None), ("bbb", "1"), ("ccc", None)]
    assert said[:3] == [
        "[0/3] whole, seed 8: submitted as job 1", "[0/3] k1 = 3, seed 8: submitted as job 2",
        "[0/3] other, seed 8: submitted as job 3",
    ]  # fmt: skip
    assert "[0/3] whole, seed 8: job 1 is RUNNING" in said and said[-1] == "[3/3] other, seed 8: finished"
    assert cluster.works["1"].needed and not cluster.works["2"].needed


def test_where_jobs_cannot_wait_for_one_another_a_test_is_held_back(submit, tmp_path):
    cluster = Fake(tmp_path, chains=False)
    failures, said = submit(cluster, [TRAINED, TESTED], wait=False)
    assert cluster.submitted == [("aaa", None)]
    assert said[-1] == (
        "1 runs are queued or running, 1 are yet to be submitted; give the same command again for the rest"
    )
    failures, said = submit(cluster, [TRAINED, TESTED])
    assert failures == {} and cluster.submitted == [("aaa", None), ("bbb", None)]
    assert said.index("[1/2] whole, seed 8: finished") < said.index("[1/2] k1 = 3, seed 8: submitted as job 2")


def test_what_is_queued_is_not_submitted_again(submit, tmp_path):
    cluster = Fake(tmp_path)
    assert submit(cluster, [OTHER], wait=False)[0] == {}
    failures, said = submit(cluster, [OTHER], wait=False)
    assert len(cluster.submitted) == 1 and said[0] == "[0/1] other, seed 8: job 1 is PENDING"
    failures, said = submit(cluster, [OTHER])
    assert failures == {} and len(cluster.submitted) == 1 and said[-1] == "[1/1] other, seed 8: finished"


def test_what_another_call_submitted_in_between_is_not_submitted_again(submit, tmp_path, monkeypatch):
    cluster = Fake(tmp_path)
    found = Submitter._record
    looks = []

    def record(self, identity):  # the other call submits after this one has looked
        looks.append(identity)
        if len(looks) == 2:
            monkeypatch.setattr(Submitter, "_record", found)
            submit(cluster, [OTHER], wait=False) if take_is_free(tmp_path) else write_record(tmp_path, cluster)
        return found(self, identity)

    monkeypatch.setattr(Submitter, "_record", record)
    failures, _ = submit(cluster, [OTHER])
    assert failures == {} and len(cluster.submitted) == 1


def take_is_free(results: Path) -> bool:
    lock = take(home_of(results, "ccc"))
    if lock:
        lock.close()
    return lock is not None


def write_record(results: Path, cluster: Fake) -> None:
    work = Work(OTHER, results, "cpu", False, HOME, "code")
    number = cluster.submit(work, results, "title", None)
    (home_of(results, "ccc") / "job.json").write_text(json.dumps({"cluster": "slurm", "number": number}))


def test_a_failed_job_is_one_line_that_names_its_log(submit, tmp_path):
    cluster = Fake(tmp_path, acts={"1": "FAILED", "2": "TIMEOUT"}, chains=False)
    texts = (
        "Traceback (most recent call last):\nutils.errors.UserError: epoch 3: diverged (o.txt)\n\nsrun: error: n: Exited with exit code 1\n",
        "utils.errors.UserError: of the job's first time\nslurmstepd: error: *** JOB 2 CANCELLED DUE TO TIME LIMIT ***\n",
    )
    logs = [home_of(tmp_path, name) / "jobs" / f"{number}_0_log.err" for name, number in (("aaa", 1), ("ccc", 2))]
    for log, text in zip(logs, texts):
        log.parent.mkdir(parents=True)
        log.write_text(text)
    failures, said = submit(cluster, [TRAINED, TESTED, OTHER])
    assert failures == {
        "aaa": f"epoch 3: diverged (o.txt); log of job 1: {logs[0]}",
        "bbb": "the model that it tests was not trained",
        "ccc": f"TIMEOUT: slurmstepd: error: *** JOB 2 CANCELLED DUE TO TIME LIMIT ***; log of job 2: {logs[1]}",
    }
    assert sum(": failed: " in line for line in said) == 3 and not any("\n" in line for line in said)


def test_the_next_call_submits_again_what_ended_before(submit, tmp_path):
    cluster = Fake(tmp_path, acts={"1": "TIMEOUT"})
    submit(cluster, [OTHER], wait=False)
    cluster.ways.clear()
    failures, said = submit(cluster, [OTHER], start=False, wait=False)
    log = home_of(tmp_path, "ccc") / "jobs" / "1_0_log.err"
    assert failures == {"ccc": f"TIMEOUT; log of job 1: {log}"} and len(cluster.submitted) == 1
    failures, said = submit(cluster, [OTHER])
    assert failures == {} and said[0].startswith(
        f"[0/1] other, seed 8: submitted as job 2, since the one before ended: TIMEOUT; log of job 1: {log}"
    )


def test_a_queue_that_does_not_answer_is_borne_while_waiting_and_said_at_the_start(submit, tmp_path):
    cluster = Fake(tmp_path)
    submit(cluster, [OTHER], wait=False)
    cluster.silent = 1
    with pytest.raises(UserError, match="squeue does not answer"):
        submit(cluster, [OTHER])
    said = []

    def say(line: str) -> None:
        said.append(line)
        if "RUNNING" in line:
            cluster.silent = 2

    assert Submitter(cluster, tmp_path, "cpu", 1, say, HOME, "code").run([OTHER]) == {}
    assert said.count("--slurm: squeue does not answer (timed out); trying again") == 1
    assert len(cluster.submitted) == 1


def test_results_that_come_late_from_another_node_are_waited_for(submit, tmp_path):
    cluster = Fake(tmp_path, acts={"1": "COMPLETED", "2": "COMPLETED"})
    cluster.patience = 0.3
    began = time.monotonic()
    failures, _ = submit(cluster, [OTHER])
    assert list(failures) == ["ccc"] and time.monotonic() - began >= 0.3
    states = cluster.states

    def late(jobs):
        found = states(jobs)
        if found == {"2": "COMPLETED"}:
            make_run(tmp_path, "ccc")
        return found

    cluster.states = late
    assert submit(cluster, [OTHER])[0] == {}


def test_a_run_that_a_process_here_is_at_is_not_submitted(submit, tmp_path):
    lock = take(home_of(tmp_path, "ccc"))
    cluster = Fake(tmp_path)
    _, said = submit(cluster, [OTHER], wait=False)
    assert not cluster.submitted and "another process is at it" in said[0]
    lock.close()


# ------------------------------------------------------------------------------------------------------- the job itself


def test_a_job_of_changed_code_or_without_its_model_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.experiments.work.code_hash", lambda home: "code")
    with pytest.raises(UserError, match="the code was changed after this run was submitted"):
        Work(OTHER, tmp_path, "cpu", False, HOME, "other")()
    with pytest.raises(UserError, match="the model that it tests was not trained"):
        Work(TESTED, tmp_path, "cpu", False, HOME, "code")()


def test_a_job_is_queued_again_only_if_it_has_saved_an_epoch(tmp_path):
    pytest.importorskip("submitit")
    work = Work(OTHER, tmp_path, "cpu", False, HOME, "code")
    with pytest.raises(UserError, match="no epoch was finished within the time that the job had; raise time"):
        work.checkpoint()
    make_run(tmp_path, "ccc", rows=False)
    assert work.checkpoint().function is work


def test_the_signal_that_time_is_nearly_up_does_not_reach_the_run(tmp_path):
    words = _deaf_command(OTHER, tmp_path, "cpu", None, "model")
    assert words[: len(DEAF)] == [*DEAF] and words[len(DEAF) + 1] == "main.py"
    code = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print(os.getpid())"
    process = os.posix_spawn("/bin/sh", [*DEAF, "python3", "-c", code], os.environ)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


# --------------------------------------------------------------------------------------------- sbatch, squeue, submitit


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """programs(name=script, ...) puts shell scripts of these names before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(**scripts):
        for name, text in {"srun": "", **scripts}.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)

    return write


def test_what_sbatch_is_told(programs, tmp_path):
    pytest.importorskip("submitit")
    programs(sbatch=f'cp "$1" {tmp_path}/script; echo Submitted batch job 7', squeue="")
    cluster = Slurm(read_parameters("partition=gpu time=2:00:00 dependency=singleton gpus_per_node=1")[1])
    cluster.require()
    work = Work(OTHER, tmp_path, "0", False, HOME, "code")
    (tmp_path / "jobs").mkdir()
    assert cluster.submit(work, tmp_path / "jobs", "+CMR, seed 8\n#SBATCH", "6") == "7"
    script = (tmp_path / "script").read_text()
    for line in (
        "--partition=gpu", "--time=120", "--dependency=singleton,afterany:6", "--gpus-per-node=1",
        "--job-name=+CMR_seed_8_SBATCH", "--signal=USR2@90",
    ):  # fmt: skip
        assert f"#SBATCH {line}\n" in script
    assert (tmp_path / "jobs" / "7_submitted.pkl").is_file()


def test_what_sbatch_refuses_is_one_line_and_leaves_nothing(programs, tmp_path, capfd):
    pytest.importorskip("submitit")
    programs(sbatch="echo 'sbatch: error: invalid partition specified: x\nmore' >&2; exit 1", squeue="")
    (tmp_path / "jobs").mkdir()
    with pytest.raises(UserError, match=r"^--slurm: sbatch takes no job \(invalid partition specified: x\)$"):
        Slurm({"time": 5}).submit(Work(OTHER, tmp_path, "0", False, HOME, "c"), tmp_path / "jobs", "other", None)
    assert not list((tmp_path / "jobs").iterdir()) and capfd.readouterr() == ("", "")


@pytest.mark.parametrize("script, states", [
    ("echo '7|RUNNING'; echo '9|OUT_OF_MEMORY'", {"7": "RUNNING", "8": "", "9": "OUT_OF_MEMORY"}),
    ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", {"7": "", "8": "", "9": ""}),
])  # fmt: skip
def test_states_of_jobs(programs, script, states):
    programs(squeue=script)
    assert Slurm({}).states(["7", "8", "9"]) == states


def test_a_queue_that_fails_is_said(programs):
    programs(squeue="echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(UserError, match="squeue does not answer .*Unable to contact slurm controller"):
        Slurm({}).states(["7"])


def test_a_job_that_is_killed_is_resumed_by_the_next_call(table, tmp_path, waiting, capfd):  # noqa: F811
    """With real processes of submitit's local executor and a real run, which is killed in its second epoch."""
    pytest.importorskip("submitit")
    arguments = [*table(), "--slurm", "local"]
    assert reproduce.main([*arguments, "--no-wait"]) == 0
    assert "1 runs are queued or running, 0 are yet to be submitted" in capfd.readouterr().out
    (record,) = tmp_path.glob("results/runs/*/job.json")
    number = json.loads(record.read_text())["number"]
    elsewhere = Local({})  # another process asks: it knows the number alone
    while not list(record.parent.glob("sysu/*/last.pth")):
        assert elsewhere.states([number]) == {number: "RUNNING"}
        time.sleep(0.05)
    (run,) = children(*children(int(number)))
    os.kill(run, signal.SIGKILL)
    while elsewhere.states([number])[number]:
        time.sleep(0.05)
    assert reproduce.main(arguments) == 0
    printed, log = capfd.readouterr().out, record.parent / "jobs" / f"{number}_0_log.err"
    output = record.parent / "output.txt"
    assert f", since the one before ended: killed by SIGKILL ({output}); log of job {number}: {log}\n" in printed
    assert "[1/1] whole, seed 8: finished\n" in printed
    assert ": resumes; " in "".join(path.read_text() for path in record.parent.glob("jobs/*.out"))
    assert "1 of 1" in (tmp_path / "results" / "small" / "table.md").read_text()


def children(process: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]
