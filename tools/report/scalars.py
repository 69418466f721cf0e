"""The curves that a run wrote for TensorBoard, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

PREFIX = "train/"


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(epoch, value) in order of each curve "train/NAME", by NAME; {} where the folder has none or is not there.

    A resumed run wrote some epochs twice: what was written last counts, as it does in results.jsonl.
    """
    if not folder.is_dir():
        return {}
    reader = EventAccumulator(str(folder), size_guidance={SCALARS: 0}).Reload()
    curves = {}
    for tag in reader.Tags()[SCALARS]:
        if tag.startswith(PREFIX):
            events = sorted(reader.Scalars(tag), key=lambda event: event.wall_time)
            curves[tag.removeprefix(PREFIX)] = sorted({event.step: event.value for event in events}.items())
    return curves
