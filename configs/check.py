"""Rules that one key, or several together, must keep."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from yacs.config import CfgNode

from configs.defaults import BATCH, KEYS, LOOKS, Key
from utils.errors import UserError
from utils.yml import fault_of_name, quoted

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
SAMPLERS_BY_IMAGES = ("none", "cross_modality_random")
PAIRED_SAMPLERS = ("cross_modality_identity", "identity_cross_modality", "cross_modality_drawn")
HALVED_SAMPLERS = ("cross_modality_identity", "cross_modality_drawn")  # the same identities visible, then infrared
# Networks -> the losses of what they alone answer. A network that is not listed is asked when it first answers.
ANSWERS: dict[str, tuple[str, ...]] = {
    "mcja": (),
    "agw": (),
    "mclnet": ("loss_confusion",),
    "deen": ("loss_cpm", "loss_ort"),
    "djanet": (),
    "ivreid": ("loss_heads", "loss_distillation"),
}
TWO_STEMS = ("agw", "mclnet", "deen")
TWO_STREAMS = ("mcja", *(need.removeprefix("augmentation=") for need in LOOKS if need != "augmentation=djanet"))


def check(cfg: CfgNode) -> None:
    """Raise one UserError that names every violated rule."""
    errors = [*_single_keys(cfg), *_between_keys(cfg)]
    if errors:
        raise UserError("configuration: " + "; ".join(errors))


def cautions(cfg: CfgNode) -> list[str]:
    """What is allowed but probably not meant, one line each."""
    lines = []
    if cfg.mda_ratio != 2:
        lines.append(f"mda_ratio = {cfg.mda_ratio} has no effect (nor has it in the released model)")
    if cfg.compile and cfg.grad_checkpoint:
        lines.append("compile = True has no effect with grad_checkpoint, which torch cannot compile; switch one off")
    for key in KEYS.values():
        if key.needs and cfg[key.name] != key.default and not any(_given(cfg, need) for need in key.needs):
            lines.append(f"{_said(cfg, key.name)} has no effect without {' or '.join(key.needs)}")
    return lines


def _given(cfg: CfgNode, need: str) -> bool:
    name, _, value = need.partition("=")
    return cfg[name] == value if value else bool(cfg[name])


def _single_keys(cfg: CfgNode) -> Iterator[str]:
    for key in KEYS.values():
        value = cfg[key.name]
        if value is None:
            continue
        if key.choices and value not in key.choices:
            yield f"{key.name} = {quoted(value)}: choose one of {', '.join(key.choices)}"
        elif key.length is not None and len(value) != key.length:
            yield f"{key.name} = {quoted(value)}: give {key.length} numbers"
        elif not all(_inside(key, item) for item in (value if key.kind is tuple else [value])):
            yield f"{key.name} = {quoted(value)}: {_bounds(key)}"
    fault = fault_of_name(cfg.prefix)
    if fault:
        yield f"prefix = {quoted(cfg.prefix)} {fault}"
    for name in ("cache_dir", "output_dir"):
        if not cfg[name]:
            yield f"{name} is empty: name a folder"
    if list(cfg.lr_step) != sorted(set(cfg.lr_step)):
        yield f"lr_step = {quoted(cfg.lr_step)}: give epochs in ascending order"


def _inside(key: Key, value: Any) -> bool:
    if isinstance(value, (str, bool)):
        return True
    over = key.above is None or value > key.above
    return over and -math.inf < value < math.inf and not (_less(value, key.least) or _less(key.most, value))


def _less(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low < high


def _bounds(key: Key) -> str:
    """The bounds in words: "must be from 1 to 10", "must be finite and above 0"."""
    each = "each must be" if key.kind is tuple else "must be"
    if key.most is not None:
        return f"{each} from {key.least:,} to {key.most:,}"
    low = (
        f" and above {key.above}"
        if key.above is not None
        else ""
        if key.least is None
        else f" and at least {key.least}"
    )
    return f"{each} finite{low}"


def _between_keys(cfg: CfgNode) -> Iterator[str]:
    if cfg.sample_method in PAIRED_SAMPLERS and cfg.k_size % 2:
        yield f"{_said(cfg, 'k_size')}: must be even with sample_method {cfg.sample_method} (half of each modality)"
    if cfg.sample_method == "cross_modality_random" and cfg.batch_size % 2:
        yield f"{_said(cfg, 'batch_size')}: must be even with sample_method cross_modality_random"
    names = ("batch_size",) if cfg.sample_method in SAMPLERS_BY_IMAGES else ("p_size", "k_size")
    images = math.prod(cfg[name] for name in names)
    if images == 1 or images > BATCH and all(cfg[name] <= BATCH for name in names):
        yield f"{_said(cfg, *names)}: a batch must hold from 2 images, which batch norm needs, to {BATCH:,}"
    blocks = BLOCKS.get(cfg.backbone, cfg.mda_layers)
    if cfg.model == "mcja" and any(wanted > there for wanted, there in zip(cfg.mda_layers, blocks)):
        stages = f"the stages of {cfg.backbone} have {blocks} blocks"
        yield f"{_said(cfg, 'mda_layers')}: {stages}, so give mda_layers within these"
    yield from _of_a_method(cfg)
    if not any(cfg[name] for name in cfg if name.startswith("loss_")):
        yield "loss_id, loss_cmr and all other loss_NAME are 0: nothing to train on"
    if cfg.test_only and not cfg.resume:
        yield "test_only needs `resume`: the run folder or checkpoint to test"


def _of_a_method(cfg: CfgNode) -> Iterator[str]:
    """Losses, steps and augmentations that a network cannot work with."""
    for model, losses in ANSWERS.items():
        for name in losses:
            if cfg[name] and cfg.model != model and cfg.model in ANSWERS:
                yield f"{_said(cfg, name, 'model')}: that loss needs model {model}; set it to 0 or choose that model"
    if cfg.loss_confusion and cfg.model == "mclnet" and cfg.step != "confusion":
        yield f"{_said(cfg, 'loss_confusion', 'step')}: that loss needs step confusion, which trains the discriminator"
    if cfg.step == "confusion" and cfg.model != "mclnet" and cfg.model in ANSWERS:
        yield f"{_said(cfg, 'step', 'model')}: that step needs model mclnet, which has a discriminator"
    if cfg.loss_kl and (cfg.sample_method not in HALVED_SAMPLERS or cfg.model == "deen"):
        other = "model" if cfg.model == "deen" else "sample_method"
        need = "one answer for each view" if other == "model" else f"sample_method {' or '.join(HALVED_SAMPLERS)}"
        yield f"{_said(cfg, 'loss_kl', other)}: that loss needs {need}"
    for name in ("loss_identity_centre", "loss_camera_centre"):
        if cfg[name] and cfg.model == "deen" and cfg.deen_stages == 3:
            yield f"{_said(cfg, name, 'deen_stages')}: that loss needs deen_stages 4, as its centres are of that width"
    if cfg.model == "djanet" and cfg.augmentation in TWO_STREAMS:
        yield f"{_said(cfg, 'model', 'augmentation')}: that model has four stems, for the views of augmentation djanet"
    if cfg.augmentation == "djanet" and cfg.model in TWO_STEMS and (cfg.private_stem or cfg.model == "deen"):
        said = _said(cfg, "augmentation", "model")
        yield f"{said}: its views take four stems, as model djanet has; choose another one"


def _said(cfg: CfgNode, *names: str) -> str:
    return ", ".join(f"{name} = {quoted(cfg[name])}" for name in names)
