"""Every configuration key, once: default, type, meaning with unit, source.

Keys are flat and lower-case, so the yml files of the released MCJA code load unchanged. A default of None is shown as
"empty" and means: the data set's own value, or decided at run time as the text says. `docs/configuration.md` is
printed from this table.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from yacs.config import CfgNode

PAPER = "MCJA paper"
RELEASED = "released code"
HERE = "this project"
MANY = 10**9  # no count comes near it
BATCH = 2**16  # images; no batch comes near it


# What a key changes.
TRAINING = "training"  # the trained model, and so whatever is tested of it
BOTH = "training and test"  # also what a finished model gives
TEST = "test"  # what a finished model gives, alone
NOTHING = "nothing"  # no result: where files are, speed, memory, names


class Key(NamedTuple):
    """One line of the configuration. Bounds hold for each entry of a tuple; floats must be finite whatever they say."""

    name: str
    kind: type  # int, float, bool, str, or tuple
    default: Any
    meaning: str
    source: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: float | None = None  # as `least`, but not reached
    length: int | None = None  # entries of a tuple
    of: type = int  # entries of a tuple: int or str
    affects: str = TRAINING
    is_path: bool = False  # ~ stands for the home folder in it
    switches: bool = False  # a number for which true is 1 and false is 0
    # It means something with one of these, "key=value" or a key that is not 0; where there is none, always.
    needs: tuple[str, ...] = ()


TWO_STREAM = ("model=agw", "model=mclnet", "model=djanet")
LOOKS = tuple(
    f"augmentation={name}" for name in ("agw", "agw_llcm", "caj", "mclnet", "deen", "ivreid", "djanet", "baseline")
)

RUN = (
    Key("prefix", str, "MCJA", "first part of the run folder's name", RELEASED, affects=NOTHING),
    Key("output_dir", str, "ckptlog", "folder under which run folders are made", RELEASED, affects=NOTHING, is_path=True),
    Key("resume", str, "", "run folder or checkpoint to continue (or, with test_only, to test); empty: start afresh", RELEASED, affects=NOTHING, is_path=True),
    Key("test_only", bool, False, "test `resume` and stop", RELEASED, affects=NOTHING),
    Key("allow_split_mismatch", bool, False, "test a model on another RegDB split, or on own images drawn by another seed, than its own, although training identities leak", HERE, affects=NOTHING),
    Key("deterministic", bool, False, "only deterministic GPU kernels; slower. A CPU run is always repeatable", HERE),
    Key("log_period", int, 50, "iterations between two log lines", RELEASED, least=1, most=MANY, affects=NOTHING),
)  # fmt: skip

DATA = (
    Key("dataset", str, "sysu", "name of the data set; docs/data.md lists them", RELEASED, affects=BOTH),
    Key("data_root", str, None, "folder that holds the data set; empty: the one under datasets/ that docs/data.md names", HERE, affects=NOTHING, is_path=True),
    Key("infrared_root", str, None, "folder of translated infrared training images, which are taken instead of the originals; empty: the originals", HERE, is_path=True),
    Key("trial", int, 1, "split of a data set that has several, as RegDB has 1..10; one that has a single split ignores it", RELEASED, least=1, most=MANY, affects=BOTH),
    Key("num_id", int, None, "training identities; they are counted from the data, a different number here is a warning", RELEASED, least=1, most=MANY, affects=NOTHING),
    Key("num_cam", int, None, "cameras; counted from the data, a different number here is a warning. MCLNet has a centre for each; empty: 6, as released", RELEASED, least=1, most=MANY),
    Key("image_size", tuple, (384, 192), "(height, width) in pixels that every image is resized to", PAPER, least=32, most=2048, length=2, affects=BOTH),
    Key("interpolation", str, "bilinear", "how images are resized, both anti-aliased: bilinear | lanczos (AGW and its heirs)", RELEASED, ("bilinear", "lanczos"), affects=BOTH),
    Key("num_workers", int, None, "loader processes; empty: one per CPU core, 8 at most; with torchrun, its processes on a machine share the cores", HERE, least=0, most=256, affects=NOTHING),
    Key("cache", str, "disk", "where decoded images are kept: in a file under `cache_dir` | in main memory too (ram) | on the GPU too (gpu), with no loader processes | none: each is decoded anew in every epoch", HERE, ("disk", "ram", "gpu", "none"), affects=NOTHING),
    Key("cache_dir", str, "cache", "folder of the files of decoded images: one per data set, part of it and image size", HERE, affects=NOTHING, is_path=True),
    Key("sample_method", str, "norm_triplet", "norm_triplet | cross_modality_random | cross_modality_identity | identity_cross_modality | cross_modality_drawn (AGW's: K/2 images of each modality with replacement) | none", RELEASED),
    Key("p_size", int, 8, "identities in a training batch (P)", PAPER, least=1, most=BATCH),
    Key("k_size", int, 16, "images of each identity in a training batch (K)", PAPER, least=1, most=BATCH),
    Key("batch_size", int, 128, "images in a training batch, for the samplers that do not use P x K", RELEASED, least=1, most=BATCH),
    Key("test_batch_size", int, None, "test batch size; empty: twice `batch_size`", HERE, least=1, most=BATCH, affects=TEST),
)  # fmt: skip

AUGMENTATION = (
    Key("augmentation", str, "mcja", "how training images are changed: mcja | agw | agw_llcm | caj | mclnet | deen | ivreid | djanet | baseline", HERE),
    Key("random_flip", bool, True, "horizontal flip, p = 0.5", RELEASED),
    Key("random_crop", bool, True, "pad by `padding`, then crop a random window of image_size", RELEASED),
    Key("padding", int, 10, "pixels of grey (127; black, for all augmentations but mcja) put on every side before the crop", RELEASED, least=0, most=2048),
    Key("random_erase", bool, True, "erase a random rectangle, p = 0.5", RELEASED),
    Key("erase_chance", float, None, "chance of a rectangle; empty: the method's own", HERE, least=0, most=1, needs=LOOKS),
    Key("erase_least", float, None, "smallest share of the image that is erased; empty: the method's own", HERE, least=0, most=1, needs=LOOKS),
    Key("erase_most", float, None, "largest share of the image that is erased; empty: the method's own", HERE, least=0, most=1, needs=LOOKS),
    Key("grey_chance", float, None, "chance that a visible image is shown grey; empty: the method's own", HERE, least=0, most=1, needs=LOOKS),
    Key("second_views", bool, True, "show what the augmentation shows twice (caj, djanet, baseline) a second time, changed", HERE),
    Key("color_jitter", bool, True, "hue shift of up to a fifth of a turn, visible images only, p = 1/8", RELEASED, needs=("augmentation=mcja",)),
    Key("vimc_wg", bool, True, "weighted grayscale, visible images only, p = 1/8", PAPER, needs=("augmentation=mcja",)),
    Key("vimc_cc", bool, True, "cross-channel cutmix, visible images only, p = 1/8", PAPER, needs=("augmentation=mcja",)),
    Key("vimc_sj", bool, True, "spectrum jitter, visible images only, p = 1/8", PAPER, needs=("augmentation=mcja",)),
    Key("vimc_cc_released", bool, False, "draw the cutmix rectangle with height and width exchanged, as the released code does", RELEASED, needs=("augmentation=mcja",)),
)  # fmt: skip

MODEL = (
    Key("model", str, "mcja", "network: mcja | agw (also CAJ's) | mclnet | deen | djanet | ivreid", HERE, affects=BOTH),
    Key("backbone", str, "resnet50", "resnet18 | resnet34 | resnet50 | resnet101", PAPER, affects=BOTH),
    Key("pretrained", str, "imagenet", "imagenet (torchvision's IMAGENET1K_V1) | none | path of a state-dict file", RELEASED, is_path=True),
    Key("drop_last_stride", bool, False, "stride 1 in the last stage, which doubles the height and width of the final map; weights do not tell how they were trained, so keep it as it was", RELEASED, affects=BOTH),
    Key("non_local", str, "one", "inner width of AGW's non-local blocks: one (as released: a ratio divided by itself) | half of the channels (as meant; DJANet) | none: no such blocks", RELEASED, ("one", "half", "none"), affects=BOTH, needs=TWO_STREAM),
    Key("gem_p", float, 3.0, "power of the pooling; 1 is the average", RELEASED, least=1, most=100, affects=BOTH, needs=TWO_STREAM),
    Key("private_stem", bool, True, "a first convolution and batch norm for each modality; false: one for both", HERE, affects=BOTH, needs=("model=agw", "model=mclnet")),
    Key("deen_stages", int, 4, "stages of the backbone that DEEN uses: 4, or 3 as released for RegDB", RELEASED, least=3, most=4, affects=BOTH, needs=("model=deen",)),
    Key("stem_relu", bool, False, "IV-REID: a ReLU after the first batch norm, which the released code lacks", RELEASED, affects=BOTH, needs=("model=ivreid",)),
    Key("conv_bias", bool, True, "IV-REID: a bias in every convolution, as released, drawn at random since ImageNet's weights have none", RELEASED, affects=BOTH, needs=("model=ivreid",)),
    Key("vector", str, None, "what is ranked: neck (after the batch norm) | pool (before it) | s7, s8 (both in one, for djanet and deen); empty: as published", RELEASED, ("neck", "pool", "s7", "s8"), affects=TEST, needs=(*TWO_STREAM, "model=deen")),
    Key("flip", bool, None, "rank the mean of an image's and its mirror image's vectors; empty: as published (true for deen alone)", RELEASED, affects=TEST, needs=(*TWO_STREAM, "model=deen")),
    Key("mda_layers", tuple, (0, 2, 3, 0), "MDA adapters after the last n blocks of each of the four stages; all 0 switches MDA off", PAPER, least=0, most=100, length=4, affects=BOTH, needs=("model=mcja",)),
    Key("mda_m", int, 2, "spatial masks in each MDA adapter (M): 2 for SYSU-MM01, 12 for RegDB", PAPER, least=1, most=1024, affects=BOTH, needs=("model=mcja",)),
    Key("mda_ratio", int, 2, "no effect, as in the released model; kept so that released yml files load", RELEASED, least=-MANY, most=MANY, affects=NOTHING),
)  # fmt: skip

# name, weight, meaning and source of each loss
LOSSES = (
    ("id", 1.0, "cross entropy over identities", PAPER),
    ("cmr", 1.0, "the Cross-Modality Retrieval loss", PAPER),
    ("hard", 0.0, "the batch-hard triplet loss", RELEASED),
    ("wrt", 0.0, "AGW's weighted regularised triplet loss", RELEASED),
    ("adp", 0.0, "CAJ's enhanced squared difference", RELEASED),
    ("kl", 0.0, "CAJ's divergence of the plain visible view from infrared", RELEASED),
    ("centre", 0.0, "the triplet loss to centres of the other modality (DJANet's QCT, the own baseline's)", RELEASED),
    ("confusion", 0.0, "MCLNet's confusion of the discriminator", RELEASED),
    ("identity_centre", 0.0, "MCLNet's marginal centres of identities", RELEASED),
    ("camera_centre", 0.0, "MCLNet's marginal centres of cameras", RELEASED),
    ("cpm", 0.0, "DEEN's cross-modality pairs", RELEASED),
    ("ort", 0.0, "DEEN's orthogonality of branches", RELEASED),
    ("heads", 0.0, "cross entropy of IV-REID's visible and infrared heads", RELEASED),
    ("distillation", 0.0, "what IV-REID's heads teach each other", RELEASED),
)

OBJECTIVE = (
    *(
        Key(f"loss_{name}", float, weight, f"weight of {meaning}; true is 1, false 0", source, least=0, switches=True)
        for name, weight, meaning, source in LOSSES
    ),
    Key("cmr_strength", float, 0.5, "regularisation strength of the soft rank; see docs/soft_rank.md before changing it", RELEASED, above=0, needs=("loss_cmr",)),
    Key("soft_rank", str, "auto", "auto: affine form where it is exact, else native | native: always the general form | torchsort: the extension", HERE, ("auto", "native", "torchsort"), needs=("loss_cmr",)),
    Key("margin", float, 0.3, "margin of loss_hard and of loss_centre", RELEASED, least=0, needs=("loss_hard", "loss_centre")),
    Key("triplet_on", str, "pooled", "what loss_hard compares: pooled vectors | embeddings after the neck (IV-REID)", RELEASED, ("pooled", "embeddings"), needs=("loss_hard",)),
    Key("wrt_alpha", float, 1.0, "loss_wrt, loss_adp: factor of the distances in their weights", RELEASED, above=0, needs=("loss_wrt", "loss_adp")),
    Key("wrt_gamma", float, 1.0, "loss_wrt, loss_adp: factor of the difference of weighted distances", RELEASED, above=0, needs=("loss_wrt", "loss_adp")),
    Key("wrt_shifted", bool, False, "loss_wrt, loss_adp: shift the negatives' softmax, which as released loses its weights at distances above 14", HERE, needs=("loss_wrt", "loss_adp")),
    Key("centre_sigma", float, 8.0, "loss_identity_centre, loss_camera_centre: margin around the nearest row", RELEASED, least=0, needs=("loss_identity_centre", "loss_camera_centre")),
    Key("centre_rho", float, 4500.0, "the same losses: squared distance that centres should keep", RELEASED, least=0, needs=("loss_identity_centre", "loss_camera_centre")),
    Key("centres_trained", bool, False, "the same losses: train the centres, which the released code leaves at their random start", HERE, needs=("loss_identity_centre", "loss_camera_centre")),
    Key("distillation", str, "batchmean", "loss_distillation divides by rows (batchmean, as released for SYSU-MM01) | by rows and classes (mean, as released for RegDB)", RELEASED, ("batchmean", "mean"), needs=("loss_distillation",)),
    Key("step", str, "plain", "what an iteration does: plain (one step of every optimiser) | confusion (MCLNet: the discriminator's first)", HERE),
    Key("optimizer", str, "adam", "adam | sgd (Nesterov momentum 0.9)", HERE),
    Key("ema", float, 0.0, "decay per step of an exponential moving average of the weights, kept and tested beside them; 0 keeps none, 0.999 averages over about 1,000 steps", HERE, least=0, most=0.999999),
    Key("schedule", str, "steps", "how the learning rate changes: steps (to a tenth after each of `lr_step`) | steps_from_tenth (the same after a warm-up from a tenth: DJANet) | cosine (to 0 after the last epoch)", HERE),
    Key("warmup", int, 0, "epochs in which the learning rate rises linearly to its full size", HERE, least=0, most=MANY),
    Key("lr", float, 3.5e-4, "learning rate", PAPER, above=0),
    Key("wd", float, 5e-4, "weight decay, coupled (L2), on every parameter", RELEASED, least=0),
    Key("num_epoch", int, 140, "epochs", PAPER, least=0, most=MANY),
    Key("lr_step", tuple, (80, 120), "epochs after which the learning rate is multiplied by 0.1", PAPER, least=1, most=MANY),
    Key("fp16", bool, True, "mixed precision; `amp_dtype` says which", RELEASED, affects=BOTH),
    Key("compile", bool, False, "torch.compile the training step's forward pass; the first batches are slow, and a failure falls back with a warning", HERE),
    Key("grad_checkpoint", bool, False, "keep only the inputs of the residual blocks and compute the rest again backwards: less memory, slower", HERE, affects=NOTHING),
    Key("amp_dtype", str, "auto", "auto: bf16 on GPUs that have it, fp16 with gradient scaling on others, none on a CPU | fp16 | bf16 | none", HERE, ("auto", "fp16", "bf16", "none"), affects=BOTH),
)  # fmt: skip

EVALUATION = (
    Key("eval_initial", bool, True, "evaluate every setting before training", RELEASED),
    Key("start_eval", int, 0, "first epoch that may be evaluated", RELEASED, least=0, most=MANY),
    Key("eval_interval", int, 1, "epochs between evaluations; 0: never, and the last model is tested", RELEASED, least=0, most=MANY),
    Key("eval_amp", bool, False, "embed test images in the mixed precision of training; docs/parity.md says what changes", HERE, affects=TEST),
    Key("eval_memory_gb", float, 1.0, "memory that ranking may take beside the embeddings, in GB, on the device; less is slower, not different", HERE, above=0, affects=NOTHING),
    Key("select", str, "test", "which model is tested at the end: best on the test set (as the field does), best on held-out validation identities, or the last", HERE, ("test", "val", "last")),
    Key("extra_protocols", bool, False, "evaluate the extra protocols of the data set too, such as the galleries of AGW's code (docs/data.md)", HERE, affects=TEST),
    Key("rankers", tuple, (), "rankings of the final test, of tables and of reports, such as cosine, inner (products of vectors at their own lengths), mser, k_reciprocal; empty: cosine, and mser where `mser` is true", HERE, of=str, affects=TEST),
    Key("mser", bool, True, "in the final test, Multi-Spectral Enhanced Ranking beside cosine ranking; `rankers` says more", PAPER, affects=TEST),
    Key("mser_k1", int, None, "neighbours in the reciprocal sets; empty: the data set's published value", RELEASED, least=1, most=MANY, affects=TEST),
    Key("mser_k2", int, None, "neighbours averaged by query expansion; empty: the data set's published value", RELEASED, least=1, most=MANY, affects=TEST),
    Key("mser_lambda", float, None, "weight of the original distance, 0..1; empty: the data set's published value", RELEASED, least=0, most=1, affects=TEST),
    Key("mser_queries_only", bool, None, "only queries may be neighbours; empty: the data set's published value", RELEASED, affects=TEST),
)  # fmt: skip

GROUPS = {
    "Run": RUN,
    "Data and batches": DATA,
    "Augmentation": AUGMENTATION,
    "Model": MODEL,
    "Losses and optimisation": OBJECTIVE,
    "Evaluation": EVALUATION,
}
KEYS = {key.name: key for group in GROUPS.values() for key in group}


# Those that a model's weights, or what it makes of them, depend on.
MODEL_KEYS = frozenset(key.name for key in MODEL if key.affects == BOTH)
# Those of them, and of what is ranked, that decide the vectors of given weights.
VECTOR_KEYS = frozenset(key.name for key in MODEL if key.affects in (BOTH, TEST)) | {"interpolation"}


def get_defaults() -> CfgNode:
    """A new configuration that holds every key's default."""
    return CfgNode({key.name: key.default for key in KEYS.values()})


def affecting(*kinds: str) -> frozenset[str]:
    """Names of the keys that change this, such as NOTHING."""
    return frozenset(key.name for key in KEYS.values() if key.affects in kinds)
