"""The benchmarks run, and what they call the plain way computes the same."""

import copy
import os
import re
import subprocess
import sys
import weakref
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image

from benchmarks import (
    epoch,
    kept,
    memory,
    methods,
    plain,
    plain_input,
    plain_model,
    ranking_costs,
    repeated_images,
    retrieval,
    step,
)
from benchmarks import input as input_benchmark
from benchmarks import search as search_benchmark
from benchmarks.features import regdb_like, sysu_like
from configs import load_config
from data.build import build_cache, build_image_files
from data.sets import sysu
from engine.gallery.search import INDEXES, exact
from engine.retrieval.evaluation import evaluate_settings
from engine.retrieval.rankers import RANKERS
from losses.cmr import cross_modality_retrieval_loss
from models.backbones import stages
from models.modules.mda import ModalityDistributionAdapter
from tests import reference as slow
from tools import make_synthetic
from utils.errors import UserError
from utils.types import Modality, Output


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("queries_only", [True, False])
@pytest.mark.parametrize(("spectra", "k1", "k2"), [((1, 4), 5, 3), ((4, 1), 5, 3), ((1, 1), 3, 1)])
def test_plain_mser(spectra, k1, k2, queries_only):
    rng = np.random.default_rng(k1)
    query, gallery = unit(rng, spectra[0], 9, 6), unit(rng, spectra[1], 7, 6)
    expected = slow.mser(query, gallery, k1, k2, 0.3, queries_only)
    assert plain.mser(query, gallery, k1, k2, 0.3, queries_only) == pytest.approx(expected, abs=1e-9)


def test_plain_metrics():
    rng = np.random.default_rng(0)
    dist, out = rng.integers(0, 10, (9, 30)), rng.random((9, 30)) < 0.3
    pids = rng.integers(0, 4, 9), rng.integers(0, 4, 30)
    assert plain.metrics(dist, *pids, out) == pytest.approx(slow.metrics(dist, *pids, out))


@pytest.mark.parametrize("ranking", ["cosine", "mser"])
@pytest.mark.parametrize("layout", ["sysu", "regdb"])
def test_plain_and_fast_agree_on_synthetic_features(sysu_root, layout, ranking):
    data = sysu_like(sysu_root / "exp", 1.5, 32) if layout == "sysu" else regdb_like(4, 1.5, 32)
    found = evaluate_settings(data.features, data.settings, data.excluded, RANKERS[ranking].make(data.mser), 1.0)
    for setting in data.settings:
        trials = [ranking_costs.plain_trial(data, ranking, setting, trial) for trial in setting.trials]
        expected = {name: np.mean([trial[name] for trial in trials]) for name in trials[0]}
        assert found[setting.protocol] == pytest.approx(expected, abs=1e-6)


def test_synthetic_features_have_the_shape_of_the_split(sysu_root):
    features = sysu_like(sysu_root / "exp", 1.0, 8).features
    # four test identities, two images from each camera that saw them
    assert features[Modality.VISIBLE].embeddings.shape[0] == 4 and features[Modality.INFRARED].embeddings.shape[0] == 1
    seen = [len(list(sysu_root.glob(f"cam{camera}/{pid:04d}/*"))) for camera in (3, 6) for pid in identities(sysu_root)]
    assert len(features[Modality.INFRARED].pids) == sum(seen)


def identities(root) -> list[int]:
    return [int(word) for word in (root / "exp" / "test_id.txt").read_text().split(",")]


def test_benchmark(sysu_root, capsys, monkeypatch):
    monkeypatch.setattr(
        retrieval, "alone", lambda work, *arguments: work(*arguments)
    )  # starting processes takes longest
    retrieval.main(
        [str(sysu_root / "exp"), "--quick", "--width", "16", "--identities", "3", "--runs", "1", "--growth", "1"]
    )
    printed = capsys.readouterr().out
    assert "MSER distances differ by" in printed
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[1:4] for row in rows if "settings at once" in row[2]]
    forms = [row for row in rows if len(row) == 8]  # a head and two rankings
    together = [row for row in rows if len(row) == 7]  # a head; two kinds of features, two data sets, four rankings
    assert len(forms) == 3 and len(together) == 17
    assert {len(row) for row in rows if row not in forms + together} == {10}
    assert {"sysu/all/10-shot", "regdb/v2i"} <= {row[2].strip() for row in rows}


def test_input_benchmark(capsys):
    arguments = ["--images", "5", "--size", "48", "32", "--batch", "3", "--rounds", "1", "--device", "cpu"]
    threads = torch.get_num_threads()
    input_benchmark.main(arguments)
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    rows = [line.split("|")[1:4] for line in printed.splitlines() if line.startswith("| ")][1:]
    assert [row[0].strip().split(" only")[0] for row in rows] == [
        "one by one", "one by one: decode and resize", "one by one: augment",
        "in batches, from the cache", "in batches: read the cache", "in batches: augment",
    ]  # fmt: skip
    assert all(float(row[1]) > 0 and float(row[2]) > 0 for row in rows) and "torch" in printed


@pytest.mark.parametrize(
    "arguments", [["--images", "0"], ["--size", "8", "8"], ["--rounds", "-1"], ["--device", "tpu"], ["--batch", "x"]]
)
def test_input_benchmark_refuses(arguments):
    with pytest.raises(UserError, match=arguments[0]):
        input_benchmark.main(arguments)


def test_plain_augmentation_is_of_the_same_kind():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8))
    for part in (plain_input.weighted_grayscale, plain_input.cross_channel_cutmix, plain_input.spectrum_jitter):
        assert part(image).size == image.size and part(image).mode == "RGB"
    out = plain_input.augmentation((40, 20))(image)
    assert out.shape == (3, 40, 20) and out.dtype == torch.float32


def test_step_benchmark(capsys):
    step.main(["--batch", "8", "--runs", "1", "backbone", "resnet34", "image_size", "(64, 32)"])
    rows = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line]
    losses = [float(row[4]) for row in rows[2:9]]
    assert losses[:6] == pytest.approx(losses[:1] * 6, rel=1e-4) and losses[6] == pytest.approx(losses[0], rel=1e-2)
    assert rows[2][1].startswith("plain") and rows[2][3] == "1.00"


def test_step_benchmark_of_another_method(capsys):
    keys = ["backbone", "resnet18", "image_size", "(64, 32)"]
    step.main(["--cfg", "configs/SYSU_MCLNet.yml", "--batch", "8", "--runs", "1", *keys])
    rows = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines() if "|" in line]
    names, losses = [row[1] for row in rows[2:7]], [float(row[4]) for row in rows[2:7]]
    assert names[1:4] == ["+ fused optimiser", "+ channels_last", "+ freed memory kept"] and "bf16" in names[4]
    assert losses[:4] == pytest.approx(losses[:1] * 4, rel=1e-4) and losses[4] == pytest.approx(losses[0], rel=1e-2)
    assert rows[2][6] == "-" and not any("CMR" in row[1] for row in rows)


def test_plain_adapters_and_losses_compute_the_same():
    torch.manual_seed(0)
    adapter = ModalityDistributionAdapter(8, 3)
    torch.nn.init.ones_(adapter.norm_bn.weight)
    same, x = copy.deepcopy(adapter), torch.randn(4, 8, 5, 3)
    same.__class__ = plain_model.PlainAdapter
    torch.testing.assert_close(same(x), adapter(x))
    embeddings = torch.randn(24, 16, dtype=torch.float64, requires_grad=True)
    pids, modalities = torch.arange(24) // 6, torch.arange(24) % 2
    pids[-1] = 9  # a query without a match
    losses = (
        plain_model.cmr_loss(embeddings, pids, modalities),
        cross_modality_retrieval_loss(embeddings, pids, modalities),
    )
    gradients = [torch.autograd.grad(loss, embeddings)[0] for loss in losses]
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


SMALL = ["backbone", "resnet18", "image_size", "(64, 32)", "mda_layers", "[0, 0, 1, 0]", "num_workers", "0"]
CPU = torch.device("cpu")


def table(printed: str) -> list[list[str]]:
    """Cells of the printed table, its head and the line below left out."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# ---------------------------------------------------------------------------------------------------------------- epoch


def test_epoch_benchmark(tmp_path, capsys):
    arguments = ["--images", "900", "--batches", "4", "--device", "cpu", "--folder", str(tmp_path)]
    epoch.main([*arguments, "p_size", "2", "k_size", "4", *SMALL])
    printed = capsys.readouterr().out
    still, loaded = table(printed)
    assert loaded[:2] == ["the loader, cache disk", "4"] and still[1] == "1"
    # 586 visible and 314 infrared images of 395 identities: fewer than four of each, so one chunk of each, two a batch
    assert "900 images, 197 batches of 8 in an epoch" in printed
    assert float(loaded[4].strip("~")) == pytest.approx(197 * 8 / float(loaded[2]), rel=0.02) and loaded[4][0] == "~"
    assert float(loaded[3]) == pytest.approx(float(loaded[2]) / float(still[2]), rel=0.01) and still[3] == "1.000"
    assert "lost to the input: " in printed


def test_epoch_is_of_the_published_size(sysu_root):
    benchmark = repeated_images.repeated(sysu.load(str(sysu_root)), sum(repeated_images.COUNTS))
    counts = {modality: [r for r in benchmark.train if r.modality == modality] for modality in Modality}
    assert benchmark.num_ids == len({record.pid for record in benchmark.train}) == 395
    assert (len(counts[Modality.VISIBLE]), len(counts[Modality.INFRARED])) == (22258, 11909)
    infrared = counts[Modality.INFRARED]
    assert {r.camera for r in infrared} == {3, 6} == {int(Path(r.path).parts[-3][3:]) for r in infrared}


def test_epoch_reads_what_decoding_would_give(sysu_root, tmp_path):
    settings = ["image_size", "(64, 32)", "cache_dir", str(tmp_path), "num_workers", "0", "data_root", str(sysu_root)]
    cfg, benchmark = load_config(None, settings), repeated_images.repeated(sysu.load(str(sysu_root)), 150)
    repeated_images.fill_cache(cfg, benchmark)
    pixels, fault = build_cache(cfg, benchmark, "train")
    rows = torch.tensor([0, 77, 149])
    assert fault is None and len(pixels) == 150
    assert torch.equal(pixels[rows], build_image_files(cfg, benchmark, "train")[rows])


def test_epoch_says_that_the_disk_is_too_small(sysu_root, tmp_path, monkeypatch):
    cfg = load_config(None, ["cache_dir", str(tmp_path), "data_root", str(sysu_root)])
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2**30))
    with pytest.raises(UserError, match="7.04 GB are needed, 1.00 GB are free"):
        repeated_images.fill_cache(cfg, repeated_images.repeated(sysu.load(str(sysu_root)), 34167))
    assert not list(tmp_path.iterdir())


def test_stopwatch_times_its_span_only():
    clock, engine = epoch.Stopwatch(epoch.Span(2, 3), CPU), Engine(lambda engine, batch: None)
    events = Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED, Events.ITERATION_COMPLETED
    for event, handler in zip(events, (clock.asks, clock.has, clock.done)):
        engine.add_event_handler(event, handler)
    engine.run(range(100))
    assert engine.state.iteration == clock.batches == 5 and clock.timing.batches == 3
    assert 0 < clock.timing.waiting < clock.timing.seconds


# --------------------------------------------------------------------------------------------------------------- memory


def test_memory_of_a_small_network_by_hand():
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.ReLU(inplace=True), torch.nn.Linear(5, 2))
    with kept.Counter(network.parameters()) as counter:
        output = network(torch.randn(7, 3)) ** 2
    # the input, the hidden map, which both the ReLU and the second layer keep, and the output before it is squared
    assert counter.bytes == 4 * 7 * (3 + 5 + 2)
    counter.leave_out([output.grad_fn._saved_self])
    assert counter.bytes == counter.release() == 4 * 7 * (3 + 5) and not counter.storages
    assert memory.states(network) == {"weights": 4 * 32, "gradients": 4 * 32, "Adam's moments": 8 * 32}


def test_counting_keeps_no_graph():
    with kept.Counter():
        result = torch.randn(3, requires_grad=True).sigmoid()  # kept by its own graph
    watched = weakref.ref(result)
    del result
    assert watched() is None


@pytest.mark.parametrize("dtype", memory.PRECISIONS.values())
def test_memory_grows_with_the_batch(dtype):
    cfg = load_config(None, ["pretrained", "none", *SMALL])
    model = memory.make_model(cfg, CPU)
    bytes_kept = kept.kept_by_model(model, cfg, dtype)
    assert bytes_kept.of(12) == kept.count_model(model, torch.randn(12, 3, 64, 32), None, dtype)


class Chain(torch.nn.Module):
    """Blocks of so many sigmoids, each block recomputed."""

    def __init__(self, *sigmoids: int):
        super().__init__()
        self.blocks = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.PReLU(), *(torch.nn.Sigmoid() for _ in range(count))) for count in sigmoids
        )

    def forward(self, x: torch.Tensor, streams: None) -> Output:
        for block in self.blocks:
            x = stages.recomputed(block, x)
        return Output(x, x)


# A sigmoid keeps its result, the PReLU before them the block's input. While a block is computed again, its own maps and
# the inputs up to its own are there: with three sigmoids, then one, 1 + 3 or 2 + 1 maps.
@pytest.mark.parametrize(("sigmoids", "maps"), [((3, 1), 4), ((1, 3), 5), ((1, 1, 1, 1), 5)])
def test_memory_of_recomputed_blocks(sigmoids, maps):
    assert kept.count_model(Chain(*sigmoids), torch.randn(2, 3, 6, 5), None, None) == maps * 4 * 2 * 3 * 6 * 5


@pytest.mark.parametrize("name", ["SYSU_CAJ", "SYSU_DEEN"])
def test_memory_of_other_methods(name):
    keys = ["pretrained", "none", "backbone", "resnet18", "image_size", "(64, 32)", "grad_checkpoint"]
    cfgs = [load_config(f"configs/{name}.yml", [*keys, recompute]) for recompute in ("false", "true")]
    plain, recomputed = (kept.kept_by_model(memory.make_model(cfg, CPU), cfg, None) for cfg in cfgs)
    images, streams = kept.views_of(cfgs[0], 6)
    assert len(images) == {"SYSU_CAJ": 9, "SYSU_DEEN": 6}[name]  # CAJ shows visible records twice
    assert plain.of(6) == kept.count_model(memory.make_model(cfgs[0], CPU), images, streams, None)
    assert recomputed.per_image < 0.8 * plain.per_image


def test_losses_keep_what_the_real_answers_make_them_keep():
    cfg = load_config("configs/SYSU_DEEN.yml", ["pretrained", "none", "backbone", "resnet18", "image_size", "(64, 32)"])
    output, model = kept.answer_of(cfg, 8, CPU), memory.make_model(cfg, CPU)
    real = model(torch.randn(8, 3, 64, 32), torch.arange(8) % 2)
    assert [part.shape for part in kept.answers(output)] == [part.shape for part in kept.answers(real)]
    assert torch.equal(output.rows, real.rows)


def test_memory_benchmark(capsys):
    memory.main(["--batches", "4", "--device", "cpu", *SMALL])
    rows = table(capsys.readouterr().out)
    assert [row[:3] for row in rows] == [["4", p, r] for p in memory.PRECISIONS for r in ("no", "yes")]
    assert rows[0][5] == "1.00" and all(float(row[3]) < float(row[4]) for row in rows)


@pytest.mark.parametrize(
    ("main", "arguments"),
    [(epoch.main, ["--images", "1"]), (epoch.main, ["--batches", "0"]), (epoch.main, ["--device", "tpu"]), (memory.main, ["--batches", "1"])],
)  # fmt: skip
def test_epoch_and_memory_refuse(main, arguments):
    with pytest.raises(UserError, match=arguments[0]):
        main(arguments)


# ---------------------------------------------------------------------------------------------------------- all of them


STUB = """#!/bin/sh
[ "$1" = -m ] || exit 0
shift
printf '%s\\t' "$@" >> "$CALLS"; echo >> "$CALLS"
echo "| table of $1 |"
case $1 in
  *."$FAILS") echo "error: out of luck" >&2; exit 2;;
esac
"""
HOME = Path(epoch.__file__).parent.parent
ALL = ["pytest", "step", "make_synthetic", "retrieval", "input", "epoch", "memory"]


@pytest.fixture
def run_all(tmp_path):
    """run_all(**environment) -> the finished script, with an interpreter that only writes down what it is asked for."""
    stub = tmp_path / "python"
    stub.write_text(STUB)
    stub.chmod(0o755)
    own = {"PYTHON": str(stub), "CALLS": str(tmp_path / "calls"), "FAILS": "", "TMPDIR": str(tmp_path)}
    script = Path(epoch.__file__).with_name("gpu_all.sh")

    def run(**environment: str) -> tuple[subprocess.CompletedProcess, list[list[str]]]:
        command = ["bash", str(script), str(tmp_path / "out")]
        done = subprocess.run(command, env={**os.environ, **own, **environment}, capture_output=True, text=True)
        calls = [line.split("\t")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]
        return done, calls

    return run


@pytest.mark.parametrize("smoke", ["0", "1"])
def test_all_benchmarks_are_asked_for_what_they_take(run_all, tmp_path, smoke):
    done, calls = run_all(SMOKE=smoke)
    assert done.returncode == 0 and [call[0].split(".")[-1] for call in calls] == ALL
    takes = {"input": input_benchmark.parse, "step": step.parse, "epoch": epoch.parse, "memory": memory.parse, "retrieval": retrieval.parse}  # fmt: skip
    assert all((HOME / word).is_file() for word in calls[0] if word.endswith(".py"))
    for (_, name), arguments in ((call[0].split("."), call[1:]) for call in calls[1:]):
        given = takes[name](arguments) if name in takes else make_synthetic.build_parser().parse_args(arguments)
        load_config(None, getattr(given, "opts", []))
    shown = [
        done.stdout.index(text) for text in ("## tests", "## step", "| table of benchmarks.step |", "## retrieval")
    ]
    assert shown == sorted(shown) and "all parts passed" in done.stdout
    assert not list(tmp_path.glob("tmp.*"))  # the scratch folder


def test_a_failing_benchmark_leaves_the_others_alone(run_all, tmp_path):
    done, calls = run_all(FAILS="epoch")
    assert done.returncode == 1 and len(calls) == len(ALL)
    assert done.stdout.splitlines()[-1] == "failed: epoch (exit code 2);"
    assert "error: out of luck" in (tmp_path / "out" / "tables.md").read_text()


def test_all_parts_together_take_at_most_330_seconds():
    script = (HOME / "benchmarks" / "gpu_all.sh").read_text()
    limits = {name: int(limit) for name, limit in re.findall(r"^ *part (\w+) (\d+) ", script, re.MULTILINE)}
    assert set(limits) == {"tests", "step", "split", "retrieval", "input", "epoch", "memory", "ladder", "growth"}
    assert sum(limit for name, limit in limits.items() if name not in ("ladder", "growth")) <= 330


def test_chosen_benchmarks_only(run_all):
    assert [call[0] for call in run_all(PARTS="retrieval input", SPLIT="exp")[1]] == ["benchmarks.retrieval", "benchmarks.input"]  # fmt: skip


def test_a_benchmark_of_the_script_runs(tmp_path):
    chosen = {"SMOKE": "1", "PARTS": "input", "PYTHON": sys.executable}
    script = Path(epoch.__file__).with_name("gpu_all.sh")
    done = subprocess.run(["bash", str(script), str(tmp_path)], env={**os.environ, **chosen}, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0 and table((tmp_path / "tables.md").read_text())[0][0] == "one by one"


def test_methods_are_measured_with_their_own_recipes(capsys):
    methods.main(
        [
            *("--cfgs", "configs/SYSU_MCJA.yml", "configs/SYSU_AGW.yml", "--device", "cpu", "--runs", "1"),
            *(
                "backbone",
                "resnet18",
                "image_size",
                "(64, 32)",
                "p_size",
                "2",
                "k_size",
                "4",
                "mda_layers",
                "[0, 0, 1, 0]",
            ),
        ]
    )
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| MCJA", "| AGW"] and rows[0][5] == rows[0][7] == "1.00"
    assert all(float(value) > 0 for row in rows for value in (row[1], row[4], row[6]))


def test_search_prints_every_way_beside_the_plain_one(capsys):
    search_benchmark.main(["--rows", "40", "900", "--width", "8", "--runs", "1"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if re.match(r"\| [49]", line)]
    ways = ["plain", *(name for name in INDEXES if name == "exact" or find_spec("faiss"))]
    assert [line[3] for line in lines] == ways * 4
    assert {line[6] for line in lines if line[3] == "exact"} == {"1.000"}


def test_milvus_lite_is_searched_beside_them(capsys):
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    search_benchmark.main(["--rows", "40", "--width", "8", "--runs", "1", "--milvus"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if " | Milvus Lite | " in line]
    assert [line[2] for line in lines] == ["1", "32"] and {line[6] for line in lines} == {"1.000"}


def test_the_plain_search_finds_the_same():
    rng = np.random.default_rng(0)
    vectors, queries = (unit(rng, count, 16).astype(np.float32) for count in (200, 5))
    assert np.array_equal(search_benchmark.plain(vectors, queries), exact(queries, vectors, search_benchmark.TOP).rows)


def test_embedding_is_timed_from_files_and_from_pixels(trained, capsys):
    search_benchmark.main(["--parts", "embed", "--model", str(trained), "--images", "4"])
    table = re.findall(r"\| (.*?) \| [\d.e+]+ \| [\d.]+ \|", capsys.readouterr().out)
    assert table == ["files, one after another", "files, tools.embed", "pixels by 1, torch", "pixels by 4, torch"]
    with pytest.raises(UserError, match="--parts embed needs --model MODEL"):
        search_benchmark.main(["--parts", "embed"])
