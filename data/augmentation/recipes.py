"""What each method of the two-stream family shows its network, as released."""

from __future__ import annotations

from data.augmentation.looks import Erasing, Look, Looks

CHANNELS = Erasing()  # CAJ's constants, which are ImageNet-like means written into an already normalised image


def one_look(erasing: Erasing, grey: float = 0.0) -> Looks:
    """The same look at both modalities."""
    return Looks(visible=(Look(0, grey, erasing=erasing),), infrared=(Look(1, grey, erasing=erasing),))


def mclnet(chance: float = 0.8) -> Looks:
    """Large rectangles, in four of five images."""
    return one_look(Erasing(area=(0.1, 0.8), chance=chance))


def deen(area: tuple[float, float] = (0.2, 0.8), chance: float = 0.5) -> Looks:
    """Grey in every second image. area: (0.2, 0.8) on SYSU-MM01, (0.02, 0.4) on RegDB and LLCM."""
    return one_look(Erasing(area, fill=(0.485, 0.456, 0.406), chance=chance), grey=0.5)


def agw_llcm(chance: float = 0.5) -> Looks:
    """AGW as the LLCM repository trains it: rectangles of 0."""
    return one_look(Erasing(fill=(0.0, 0.0, 0.0), chance=chance))


LOOKS: dict[str, Looks] = {
    "agw": Looks(visible=(Look(0),), infrared=(Look(1),)),
    "caj": Looks(
        visible=(Look(0, erasing=CHANNELS), Look(0, erasing=CHANNELS, mixing="exchange")),
        infrared=(Look(1, erasing=CHANNELS, mixing="adaptive"),),
    ),
    "agw_llcm": agw_llcm(),
    "mclnet": mclnet(),
    "deen": deen(),
    "ivreid": Looks(visible=(Look(0),), infrared=(Look(1),)),
    "djanet": Looks(
        visible=(Look(0, grey=0.5, erasing=CHANNELS), Look(1, erasing=CHANNELS, mixing="exchange")),
        infrared=(
            Look(2, erasing=CHANNELS, mixing="reduced"),
            Look(3, brightness=0.5, erasing=CHANNELS, mixing="scaled"),
        ),
    ),
    # Grey or as it is, and one channel for all; as it is, and each channel scaled.
    "baseline": Looks(
        visible=(Look(0, grey=0.5, erasing=CHANNELS), Look(0, erasing=CHANNELS, mixing="exchange")),
        infrared=(Look(1, erasing=CHANNELS), Look(1, erasing=CHANNELS, mixing="scaled")),
    ),
}
