"""Configuration: released yml files, the styles people write, and messages that name file and key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from yacs.config import CfgNode

from configs import cautions, load_config
from configs.check import BLOCKS
from configs.defaults import GROUPS, KEYS, get_defaults
from models.backbones.resnet import RESNETS
from tools.experiments.reading import read_table
from tools.experiments.table import options
from utils.errors import UserError

CONFIGS = Path(__file__).parent.parent / "configs"
YML_FILES = sorted(CONFIGS.glob("*.yml"))
# The files that were released with MCJA, value by value.
RELEASED_SYSU = """
prefix: SYSU
dataset: sysu
image_size: (384, 192)
sample_method: norm_triplet
p_size: 8
k_size: 16
batch_size: 128
random_flip: true
random_crop: true
random_erase: true
color_jitter: true
padding: 10
vimc_wg: true
vimc_cc: true
vimc_sj: true
drop_last_stride: false
mda_ratio: 2
mda_m: 2
loss_id: true
loss_cmr: true
lr: 0.00035
wd: 0.0005
num_epoch: 140
lr_step: [80, 120]
fp16: true
start_eval: 0
log_period: 10
eval_interval: 1
resume: ''
mser: true
test_only: false
"""
RELEASED_REGDB = """
prefix: RegDB
dataset: regdb
image_size: (384, 192)
sample_method: norm_triplet
p_size: 4
k_size: 32
batch_size: 128
random_flip: true
random_crop: true
random_erase: true
color_jitter: true
padding: 10
vimc_wg: true
vimc_cc: true
vimc_sj: true
drop_last_stride: false
mda_ratio: 2
mda_m: 12
loss_id: true
loss_cmr: true
lr: 0.00035
wd: 0.0005
num_epoch: 300
lr_step: [300]
fp16: true
start_eval: 0
log_period: 5
eval_interval: 1
resume: ''
mser: true
test_only: false
"""
RELEASED = {"SYSU_MCJA": RELEASED_SYSU, "RegDB_MCJA": RELEASED_REGDB}
KEYS_OF_THE_RELEASED_FILES = set(
    "prefix dataset image_size sample_method p_size k_size batch_size random_flip random_crop random_erase "
    "color_jitter padding vimc_wg vimc_cc vimc_sj drop_last_stride mda_ratio mda_m loss_id loss_cmr lr wd num_epoch "
    "lr_step fp16 start_eval log_period eval_interval resume mser test_only".split()
)


@pytest.fixture
def yml(tmp_path):
    """yml(text) -> path of a file that holds it."""

    def write(text: str) -> str:
        path = tmp_path / "run.yml"
        path.write_text(text)
        return str(path)

    return write


def refusal(path: str | None = None, *opts: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, opts)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------ yml files


def test_released_yml_loads_with_every_value_in_its_type(yml):
    cfg = load_config(yml(RELEASED_SYSU))
    expected = {
        "prefix": "SYSU", "dataset": "sysu", "image_size": (384, 192), "sample_method": "norm_triplet",
        "p_size": 8, "k_size": 16, "batch_size": 128, "random_flip": True, "random_crop": True, "random_erase": True,
        "color_jitter": True, "padding": 10, "vimc_wg": True, "vimc_cc": True, "vimc_sj": True,
        "drop_last_stride": False, "mda_ratio": 2, "mda_m": 2, "loss_id": 1.0, "loss_cmr": 1.0, "lr": 0.00035,
        "wd": 0.0005, "num_epoch": 140, "lr_step": (80, 120), "fp16": True, "start_eval": 0, "log_period": 10,
        "eval_interval": 1, "resume": "", "mser": True, "test_only": False,
    }  # fmt: skip
    assert {name: cfg[name] for name in expected} == expected
    assert all(type(cfg[name]) is type(value) for name, value in expected.items())
    assert expected.keys() == KEYS_OF_THE_RELEASED_FILES


@pytest.mark.parametrize("name", RELEASED)
def test_our_files_are_the_released_ones(yml, name):
    """The published recipe: another value of a released key would train and test another model."""
    released, ours = load_config(yml(RELEASED[name])), load_config(str(CONFIGS / f"{name}.yml"))
    assert yaml.safe_load(RELEASED[name]).keys() == KEYS_OF_THE_RELEASED_FILES
    assert {key for key in KEYS if released[key] != ours[key]} == {"prefix", "log_period"}


def test_switches_of_this_project_are_off_by_default():
    """What the released files do not say: the released code has fixed values for it."""
    cfg = load_config()
    assert (cfg.mda_layers, cfg.backbone, cfg.pretrained, cfg.select) == ((0, 2, 3, 0), "resnet50", "imagenet", "test")
    assert (cfg.cmr_strength, cfg.trial, cfg.eval_initial) == (0.5, 1, True)
    assert not any(cfg[key] for key in ("vimc_cc_released", "eval_amp", "compile", "grad_checkpoint", "deterministic"))


@pytest.mark.parametrize("path", YML_FILES, ids=lambda path: path.stem)
def test_every_yml_of_the_project_loads(path):
    cfg = load_config(str(path))
    assert cfg.prefix and cautions(cfg) == []


@pytest.mark.parametrize("path", YML_FILES, ids=lambda path: path.stem)
def test_a_yml_holds_only_what_differs_from_the_defaults(path):
    defaults, cfg = get_defaults(), load_config(str(path))
    assert [name for name in yaml.safe_load(path.read_text()) if cfg[name] == defaults[name]] == []


def test_an_empty_yml_gives_the_defaults(yml):
    assert load_config(yml("# nothing yet\n")) == load_config() == get_defaults()


def test_what_a_run_writes_down_loads_again(yml):
    cfg = load_config(None, ["lr", "1e-3", "lr_step", "[3]", "mser_k1", "7", "data_root", "somewhere"])
    assert load_config(yml(cfg.dump())) == cfg


# --------------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("name, text, value", [
    ("lr", "1e-3", 0.001), ("lr", "3.5e-4", 0.00035), ("lr", "1", 1.0), ("lr", "'0.5'", 0.5), ("wd", "0", 0.0),
    ("image_size", "(128, 64)", (128, 64)), ("image_size", "[128, 64]", (128, 64)), ("image_size", "(128,64)", (128, 64)),
    ("lr_step", "[80, 120]", (80, 120)), ("lr_step", "80", (80,)), ("lr_step", "[]", ()), ("lr_step", "()", ()),
    ("num_epoch", "3", 3), ("fp16", "False", False), ("fp16", "off", False), ("fp16", "true", True),
    ("resume", "''", ""), ("resume", "ckptlog/sysu/run 1", "ckptlog/sysu/run 1"), ("resume", "null", ""),
    ("pretrained", "false", "none"), ("pretrained", "None", "none"), ("pretrained", "none", "none"),
    ("mser_k1", "None", None), ("mser_k1", "null", None), ("mser_k1", "5", 5), ("mser_queries_only", "", None),
    ("data_root", "", None), ("data_root", "null", None), ("prefix", "2024", "2024"), ("prefix", "0", "0"),
])  # fmt: skip
def test_a_value_in_the_yml(yml, name, text, value):
    found = load_config(yml(f"{name}: {text}"))[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("name, text, value", [
    ("lr", "1e-3", 0.001), ("lr", "1", 1.0), ("image_size", "(128, 64)", (128, 64)), ("image_size", "[128, 64]", (128, 64)),
    ("lr_step", "[1]", (1,)), ("lr_step", "(1,)", (1,)), ("lr_step", "1", (1,)), ("fp16", "False", False),
    ("fp16", "false", False), ("num_epoch", "2", 2), ("resume", "", ""), ("prefix", "0", "0"), ("prefix", "yes", "yes"),
    ("mser_k1", "", None), ("mser_k1", "None", None), ("mser_k1", "null", None), ("data_root", "~/sets", str(Path.home() / "sets")),
    ("num_workers", "~", None),
])  # fmt: skip
def test_a_value_on_the_command_line(name, text, value):
    found = load_config(None, [name, text])[name]
    assert found == value and type(found) is type(value)


def test_later_values_override_earlier_ones(yml):
    cfg = load_config(yml("lr: 0.5\np_size: 3"), ["p_size", "5", "wd", "1", "wd", "2"])
    assert (cfg.lr, cfg.p_size, cfg.wd, cfg.k_size) == (0.5, 5, 2.0, KEYS["k_size"].default)


def test_a_configuration_is_frozen_and_its_own(yml):
    cfg = load_config()
    with pytest.raises(AttributeError):
        cfg.lr = 1.0
    with pytest.raises(AttributeError):
        cfg.learning_rate = 1.0
    load_config(yml("lr: 0.5"))
    assert cfg.lr == load_config().lr == 3.5e-4


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "typo, meant", [("batchsize", "batch_size"), ("num_epochs", "num_epoch"), ("wdd", "wd"), ("mser_K1", "mser_k1")]
)
def test_an_unknown_key_names_the_file_and_the_nearest_key(yml, typo, meant):
    path = yml(f"{typo}: 1")
    assert refusal(path) == f"{path}: unknown key {typo!r}; did you mean {meant}?"
    assert refusal(None, typo, "1") == f"command line: unknown key {typo!r}; did you mean {meant}?"


def test_a_key_like_no_other_points_to_the_list():
    assert refusal(None, "qqqqqq", "1") == "command line: unknown key 'qqqqqq'; docs/configuration.md lists every key"


@pytest.mark.parametrize("name, text, expected", [
    ("lr", "fast", "a number"), ("lr", "true", "a number"), ("lr", "[1]", "a number"), ("lr", "null", "a number"),
    ("num_epoch", "1.5", "a whole number"), ("num_epoch", "many", "a whole number"), ("num_epoch", "true", "a whole number"),
    ("num_epoch", "''", "a whole number"), ("fp16", "1", "true or false"), ("fp16", "maybe", "true or false"),
    ("image_size", "(384, 19.2)", "whole numbers such as (384, 192)"), ("image_size", "(384", "whole numbers such as (384, 192)"),
    ("image_size", "384x192", "whole numbers such as (384, 192)"), ("prefix", "[1]", "a text"),
    ("mser_k1", "x", "a whole number"), ("mser_queries_only", "2", "true or false"), ("mser_lambda", "low", "a number"),
])  # fmt: skip
def test_a_wrong_type_names_the_file_the_key_and_what_is_expected(yml, name, text, expected):
    path = yml(f"{name}: {text}")
    message = refusal(path)
    assert message.startswith(f"{path}: {name} = ") and message.endswith(f"must be {expected}")


def test_a_value_that_is_no_yaml_is_refused_on_the_command_line():
    assert refusal(None, "lr", "{") == "command line: lr = '{' must be a number"


def test_a_key_without_a_value():
    assert refusal(None, "lr", "1", "wd") == "overrides come in pairs, KEY VALUE: 'wd' has no value"


def test_a_missing_file(tmp_path):
    path = tmp_path / "absent.yml"
    message = refusal(str(path))
    assert message.startswith(f"{path}: cannot be read") and "--cfg" in message
    assert refusal(str(tmp_path)).startswith(f"{tmp_path}: cannot be read")


@pytest.mark.parametrize("text, message", [
    ("lr: 1\nlr_step: [80, 120\n", "not valid YAML in line 3"), ("lr: 1\n\twd: 2", "not valid YAML in line 2"),
    ("just words", "must hold `key: value` lines"), ("- lr\n- wd", "must hold `key: value` lines"),
])  # fmt: skip
def test_broken_yaml_names_the_file(yml, text, message):
    path = yml(text)
    assert refusal(path) == f"{path}: {message}"


def test_a_binary_file_is_not_yaml(tmp_path):
    (tmp_path / "best.pth").write_bytes(b"PK\x03\x04\xff\xfe")
    assert "not a text in UTF-8" in refusal(str(tmp_path / "best.pth"))


@pytest.mark.parametrize(("value", "weight"), [("true", 1.0), ("false", 0.0), ("0.5", 0.5), ("2", 2.0), ("1e-4", 1e-4)])
def test_a_loss_is_a_weight_that_may_be_switched(value, weight):
    assert load_config(None, ["loss_id", value]).loss_id == weight


@pytest.mark.parametrize("opts", [["lr", "true"], ["loss_id", "yes please"], ["loss_id", "-1"]])
def test_no_other_number_may_be_switched(opts):
    assert opts[0] in refusal(None, *opts)


def test_a_key_that_means_nothing_to_the_method_is_a_caution():
    cfg = load_config(None, ["gem_p", "1", "margin", "0.5", "erase_chance", "1", "mda_m", "12"])
    assert cautions(cfg) == [
        "erase_chance = 1.0 has no effect without augmentation=agw or augmentation=agw_llcm or augmentation=caj or "
        "augmentation=mclnet or augmentation=deen or augmentation=ivreid or augmentation=djanet or augmentation=baseline",
        "gem_p = 1.0 has no effect without model=agw or model=mclnet or model=djanet",
        "margin = 0.5 has no effect without loss_hard or loss_centre",
    ]
    assert not cautions(load_config(None, ["model", "agw", "gem_p", "1", "loss_hard", "1", "margin", "0.5"]))


def test_all_violations_in_one_message(yml):
    message = refusal(
        yml("p_size: 0\nlr: -1\nimage_size: [16, 64]\ntest_only: true\nselect: best\nloss_id: false\nloss_cmr: false")
    )
    assert message.startswith("configuration: ") and message.count(";") == 5
    for part in (
        "p_size = 0",
        "lr = -1",
        "image_size = (16, 64)",
        "test_only needs `resume`",
        "select = 'best'",
        "loss_id, loss_cmr and all other loss_NAME are 0",
    ):
        assert part in message


@pytest.mark.parametrize("opts, named", [
    (["k_size", "0"], "k_size"), (["batch_size", "0"], "batch_size"), (["padding", "-1"], "padding"), (["mda_m", "0"], "mda_m"),
    (["num_epoch", "-1"], "num_epoch"), (["log_period", "0"], "log_period"), (["num_workers", "-1"], "num_workers"),
    (["lr", "0"], "lr"), (["lr", "nan"], "lr"), (["lr", "inf"], "lr"), (["wd", "-1"], "wd"), (["wd", "nan"], "wd"),
    (["wd", "inf"], "wd"), (["mser_lambda", "1.1"], "mser_lambda"), (["mser_k1", "0"], "mser_k1"), (["trial", "-1"], "trial"),
    (["trial", "0"], "trial"), (["image_size", "384"], "image_size"), (["mda_layers", "(0, 2, 3)"], "mda_layers"),
    (["mda_layers", "(0, 2, -3, 0)"], "mda_layers"), (["lr_step", "(120, 80)"], "lr_step"), (["lr_step", "(0, 80)"], "lr_step"),
    (["soft_rank", "hard"], "soft_rank"), (["amp_dtype", "fp8"], "amp_dtype"), (["cmr_strength", "0"], "cmr_strength"),
    (["eval_interval", "-1"], "eval_interval"), (["num_id", "0"], "num_id"),
])  # fmt: skip
def test_a_value_outside_its_range_names_its_key(opts, named):
    message = refusal(None, *opts)
    assert message.startswith(f"configuration: {named} = ") and ";" not in message


@pytest.mark.parametrize("opts", [["num_epoch", "0"], ["eval_interval", "0"], ["wd", "0"], ["mser_lambda", "0"], ["mser_lambda", "1"],
                                  ["lr_step", "()"], ["mda_layers", "(0, 0, 0, 0)"], ["num_workers", "0"], ["trial", "10"]])  # fmt: skip
def test_values_at_the_end_of_their_range_are_allowed(opts):
    assert load_config(None, opts) != get_defaults()


@pytest.mark.parametrize("sampler", ["cross_modality_identity", "identity_cross_modality"])
def test_samplers_of_pairs_need_an_even_k(sampler):
    assert f"k_size = 5: must be even with sample_method {sampler}" in refusal(
        None, "k_size", "5", "sample_method", sampler
    )
    assert load_config(None, ["k_size", "6", "sample_method", sampler]).k_size == 6
    assert load_config(None, ["k_size", "5"]).k_size == 5


def test_halves_need_an_even_batch():
    assert "batch_size = 7: must be even" in refusal(None, "batch_size", "7", "sample_method", "cross_modality_random")
    assert load_config(None, ["batch_size", "7"]).batch_size == 7


def test_test_only_needs_something_to_test():
    assert (
        refusal(None, "test_only", "true")
        == "configuration: test_only needs `resume`: the run folder or checkpoint to test"
    )
    assert load_config(None, ["test_only", "true", "resume", "ckptlog/run"]).test_only


def test_cautions():
    assert cautions(load_config()) == []
    (line,) = cautions(load_config(None, ["mda_ratio", "4"]))
    assert line.startswith("mda_ratio = 4 has no effect")


@pytest.mark.parametrize("opts, said", [
    (["p_size", "1", "k_size", "1"], "p_size = 1, k_size = 1: a batch must hold from 2 images"),
    (["batch_size", "1", "sample_method", "none"], "batch_size = 1: a batch must hold from 2 images"),
    (["p_size", "60000", "k_size", "60000"], "p_size = 60000, k_size = 60000: a batch must hold from 2 images"),
    (["backbone", "resnet18"], "mda_layers = (0, 2, 3, 0): the stages of resnet18 have (2, 2, 2, 2) blocks, so give mda_layers"),
    (["mda_layers", "(0, 5, 3, 0)"], "mda_layers = (0, 5, 3, 0): the stages of resnet50 have (3, 4, 6, 3) blocks"),
    (["num_workers", "100000"], "num_workers = 100000: must be from 0 to 256"),
    (["image_size", "(100000, 64)"], "image_size = (100000, 64): each must be from 32 to 2,048"),
    (["image_size", "(16, 64)"], "image_size = (16, 64): each must be from 32 to 2,048"),
    (["image_size", "(64, 64, 64)"], "image_size = (64, 64, 64): give 2 numbers"),
    (["test_batch_size", "1" + "0" * 30], "test_batch_size = 1"), (["mda_m", "1000000000000"], "mda_m = 1000000000000: must be"),
    (["p_size", "0x" + "f" * 9999], "p_size = a number of thousands of digits: must be from 1 to 65,536"),
    (["output_dir", ""], "output_dir is empty: name a folder"),
    (["prefix", "../../other"], "prefix = '../../other' is a part of a folder's name, so it cannot hold /, \\ or .."),
    (["prefix", "a/b"], "prefix = 'a/b' is a part"), (["prefix", "a\\b"], "is a part"), (["prefix", "x" * 101], "is longer than 100 bytes"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_any_image_is_read(opts, said):
    message = refusal(None, *opts)
    assert said in message and message.startswith("configuration: ") and len(message) < 250


def test_the_batch_of_the_other_samplers_is_not_looked_at():
    assert load_config(None, ["batch_size", "1"]).p_size == 8
    assert load_config(None, ["p_size", "1", "k_size", "1", "sample_method", "none"]).k_size == 1


@pytest.mark.parametrize("backbone", BLOCKS)
def test_the_backbones_have_the_published_numbers_of_blocks(backbone):
    network = RESNETS[backbone].make(weights=None)
    assert BLOCKS.keys() == RESNETS.keys()
    assert BLOCKS[backbone] == tuple(len(getattr(network, f"layer{stage}")) for stage in (1, 2, 3, 4))


@pytest.mark.parametrize("text", [
    "lr: " + "[" * 5000 + "]" * 5000, "lr: " + "9" * 5000, "image_size: \"" + "(" * 5000 + "\"", "lr: 2001-99-99", "[" * 5000,
    "prefix: \"\\ud800\"", "prefix: \"a\\0b\"", "output_dir: \"a\\0b\"", "cache_dir: \"a\\nb\"", "output_dir: ~nosuchuser/x",
    "num_epoch: 0x" + "f" * 9000, "mda_layers: &a [*a, 1, 1, 1]", "p_size: {a: 1}", "? [a]\n: 1", "lr: !!python/object/apply:os.getcwd []",
])  # fmt: skip
def test_a_hostile_yml_gives_one_short_line(yml, text):
    message = refusal(yml(text))
    assert message.count("\n") == 0 and len(message) < 400


@pytest.mark.parametrize(
    "key, value", [("prefix", "a\0b"), ("cache_dir", "a\x1bb"), ("resume", "a\nb"), ("image_size", "(" * 5000)]
)
def test_a_hostile_value_on_the_command_line(key, value):
    assert refusal(None, key, value).startswith(f"command line: {key} = ")


def test_a_key_that_stands_twice_is_refused(yml):
    path = yml("lr: 1\nwd: 0\nlr: 2\n")
    assert refusal(path) == f"{path}: 'lr' occurs a second time in line 3; keep one"


def test_a_file_that_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.yml")
    assert "not a file" in refusal(str(tmp_path / "run.yml"))


def test_an_empty_yml_is_said(yml, caplog):
    load_config(yml(""))
    assert "holds no key, so it changes nothing" in caplog.text


@pytest.mark.parametrize("name", [key.name for key in KEYS.values() if key.is_path])
def test_the_home_folder_in_every_path(yml, name, monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert load_config(None, [name, "~/x"])[name] == load_config(yml(f"{name}: ~/x"))[name] == "/somewhere/x"
    assert name in ("output_dir", "resume", "data_root", "infrared_root", "cache_dir", "pretrained")


def test_names_that_the_locale_cannot_express():
    code = "import sys; from configs import load_config; load_config(None, ['output_dir', sys.argv[1]])"
    ascii_only = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", code, "r\u00fcn"], cwd=CONFIGS.parent, env=ascii_only, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1].endswith("cannot have in their names; PYTHONUTF8=1 makes Python use UTF-8")


def test_keys_with_an_equals_sign():
    cfg = load_config(None, ["lr=1e-3", "num_epoch", "2", "image_size=(64, 32)", "resume="])
    assert (cfg.lr, cfg.num_epoch, cfg.image_size, cfg.resume) == (1e-3, 2, (64, 32), "")
    assert refusal(None, "num_epochs=3").startswith("command line: unknown key 'num_epochs'; did you mean num_epoch?")


def test_a_run_is_the_base_of_what_is_given(yml):
    run = {**load_config(None, ["lr", "0.5", "p_size", "3", "wd", "1"]), "gone": 1}
    cfg = load_config(yml("p_size: 5"), ["wd", "2"], ("RUN", run))
    assert (cfg.lr, cfg.p_size, cfg.wd) == (0.5, 5, 2.0)
    with pytest.raises(UserError, match="RUN: lr = 'x' must be a number"):
        load_config(None, [], ("RUN", {"lr": "x"}))


def test_every_number_has_a_bound():
    assert [key.name for key in KEYS.values() if key.kind is int and (key.least is None or key.most is None)] == []
    assert [key.name for key in KEYS.values() if key.kind is float and key.least is None and key.above is None] == []


def test_cautions_of_compiling_what_is_recomputed():
    (line,) = cautions(load_config(None, ["compile", "true", "grad_checkpoint", "true"]))
    assert line.startswith("compile = True has no effect with grad_checkpoint")


# ---------------------------------------------------------------------------------------------------------------- table


def test_the_table_is_the_configuration():
    defaults = get_defaults()
    assert isinstance(defaults, CfgNode) and list(defaults) == list(KEYS)
    assert sum(map(len, GROUPS.values())) == len(KEYS)  # no key twice
    assert KEYS_OF_THE_RELEASED_FILES <= KEYS.keys()


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.name)
def test_a_line_of_the_table(key):
    assert key.name == key.name.lower() and key.meaning.strip() and key.source
    assert key.default is None or type(key.default) is key.kind
    assert not key.choices or key.default is None or key.default in key.choices


# --------------------------------------------------------------------------------------------------------------- tables

OTHERS = ("_", "siblings_", "ablation_baseline")  # parts of tables, and tables of other methods than MCJA
TABLES = sorted(path for path in (CONFIGS / "tables").glob("*.yml") if not path.stem.startswith(OTHERS))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_tables_of_the_paper_train_the_released_network_and_demos_their_own(yml, path):
    table = read_table(path)
    cfg = load_config(table.cfg, options(table.keys))
    demo = path.stem.startswith("demo_")
    assert cfg.drop_last_stride == (
        demo and path.stem != "demo_siblings"
    )  # whose note says: the backbone's usual strides
    assert all("drop_last_stride" not in row.keys for row in table.rows)
    if Path(table.cfg).stem in RELEASED:  # the released code knows no LLCM
        released = load_config(yml(RELEASED[Path(table.cfg).stem]))
        changed = {key for key in KEYS if released[key] != cfg[key]}
        assert changed == {"prefix", "log_period", "vimc_cc_released"} and cfg.vimc_cc_released


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("loss_cpm 1", "loss_cpm = 1.0, model = 'mcja': that loss needs model deen"),
        ("loss_ort 0.1 model agw", "loss_ort = 0.1, model = 'agw': that loss needs model deen"),
        ("loss_heads 1 model djanet augmentation djanet", "loss_heads = 1.0, model = 'djanet': that loss needs model ivreid"),
        ("loss_distillation 1", "loss_distillation = 1.0, model = 'mcja': that loss needs model ivreid"),
        ("loss_confusion 1 step confusion model agw", "loss_confusion = 1.0, model = 'agw': that loss needs model mclnet"),
        ("step confusion", "step = 'confusion', model = 'mcja': that step needs model mclnet"),
        ("loss_confusion 1 model mclnet", "loss_confusion = 1.0, step = 'plain': that loss needs step confusion"),
        ("loss_kl 1", "loss_kl = 1.0, sample_method = 'norm_triplet': that loss needs sample_method cross_modality_identity or"),
        ("loss_kl 1 sample_method identity_cross_modality", "sample_method = 'identity_cross_modality': that loss needs"),
        ("loss_kl 1 model deen sample_method cross_modality_drawn", "loss_kl = 1.0, model = 'deen': that loss needs one answer"),
        ("loss_camera_centre 1 model deen deen_stages 3", "loss_camera_centre = 1.0, deen_stages = 3: that loss needs"),
        ("model djanet", "model = 'djanet', augmentation = 'mcja': that model has four stems"),
        ("model agw augmentation djanet", "augmentation = 'djanet', model = 'agw': its views take four stems"),
    ],
)  # fmt: skip
def test_what_a_network_cannot_work_with_is_refused_at_once(keys, said):
    with pytest.raises(UserError) as error:
        load_config(None, keys.split())
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "keys",
    [
        "model mclnet step confusion",
        "model ivreid augmentation djanet",
        "model agw private_stem false augmentation djanet",
    ]
    + ["model mine step confusion loss_cpm 1 loss_heads 1", "model djanet augmentation mine"],
)
def test_what_a_network_might_work_with_is_not_refused(keys):
    load_config(None, keys.split())
