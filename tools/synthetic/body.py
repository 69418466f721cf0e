"""A posed person as a list of tubes, to be painted from far to near: limbs, trunk, head, bag (pose.py: the space)."""

import numpy as np

from tools.synthetic.person import Identity, Slot
from tools.synthetic.pose import Body, Pose, Tube


def _leg(body: Body, hip, sign: float) -> None:
    b, wear, pose = body.person.build, body.person.wear, body.pose
    swing = pose.stride * np.sin(pose.phase) * sign
    flex = 0.1 + pose.stride * max(0.0, np.cos(pose.phase) * sign)
    thigh, shin = 0.5 * (b.hip_height - 0.04), 0.5 * (b.hip_height - 0.04)
    knee = hip + thigh * np.array([0, -np.cos(swing), np.sin(swing)])
    ankle = knee + shin * np.array([0, -np.cos(swing - flex), np.sin(swing - flex)])
    toe = ankle + np.array([0.01 * sign, -0.02, 0.085])
    body.add(ankle + [0, -0.015, -0.01], toe, (0.026, 0.026, 0.022), Slot.SHOES, nearer=body.UNDER - 0.01)
    cover = wear.cover if wear.bottom == "trousers" else 0.0
    if cover < 0.5:
        body.add(hip, knee, (b.thigh, b.calf + 0.004), Slot.SKIN, nearer=body.UNDER)
    if cover < 1:
        body.add(knee, ankle, (b.calf, 0.022), Slot.SKIN, nearer=body.UNDER)
    if cover > 0:
        share = min(1.0, 2 * cover)
        wide, narrow = b.thigh + wear.loose, b.calf + 0.006 + wear.loose
        body.add(
            hip,
            hip + (knee - hip) * share,
            (wide, wide + (narrow - wide) * share),
            "leg",
            (0, share / 2),
            nearer=body.UNDER + 0.001,
            rounded=share == 1,
        )
    if cover > 0.5:
        share = 2 * cover - 1
        hem = (0.026 + wear.loose) * wear.flare
        body.add(
            knee,
            knee + (ankle - knee) * share,
            (narrow, narrow + (hem - narrow) * share),
            "leg",
            (0.5, 0.5 + share / 2),
            nearer=body.UNDER + 0.001,
            rounded=False,
        )


def _arm(body: Body, shoulder, sign: float) -> np.ndarray:
    """Draws one arm and returns the place of the hand, [3]."""
    b, wear, pose = body.person.build, body.person.wear, body.pose
    swing = -pose.swing * np.sin(pose.phase) * sign
    out = np.sin(pose.spread) * sign
    elbow = shoulder + 0.5 * b.arm * np.array([out, -np.cos(swing), np.sin(swing)])
    fore = swing + pose.bend
    hand = elbow + 0.42 * b.arm * np.array([0.4 * out, -np.cos(fore), np.sin(fore)])
    r = b.arm_radius
    body.add(hand, hand + (hand - elbow) * 0.15, (0.019, 0.017), Slot.SKIN)
    if wear.sleeve < 0.5:
        body.add(shoulder, elbow, (r, 0.85 * r), Slot.SKIN, nearer=0.01)
    if wear.sleeve < 1:
        body.add(elbow, hand, (0.85 * r, 0.6 * r), Slot.SKIN, nearer=0.01)
    if wear.sleeve > 0:
        share = min(1.0, 2 * wear.sleeve)
        body.add(
            shoulder,
            shoulder + (elbow - shoulder) * share,
            (r + 0.004 + wear.loose / 2,) * 2,
            "sleeve",
            (0, share / 2),
            nearer=0.011,
        )
    if wear.sleeve > 0.5:
        share = 2 * wear.sleeve - 1
        body.add(
            elbow,
            elbow + (hand - elbow) * share,
            (r + wear.loose / 2, 0.7 * r + wear.loose / 2),
            "sleeve",
            (0.5, 0.5 + share / 2),
            nearer=0.011,
        )
    return hand


def _trunk(body: Body, pelvis, neck) -> None:
    b, wear = body.person.build, body.person.wear
    up = (neck - pelvis) / np.linalg.norm(neck - pelvis)
    wide = 0.5 * wear.loose
    stations = [
        (0.45 * b.shoulder, 0.4 * b.depth),
        (b.shoulder, 0.85 * b.depth),
        (0.95 * b.shoulder, b.depth),
        (0.5 * (b.shoulder + b.waist), b.depth),
        (b.waist + wide, 0.95 * b.depth),
        (b.waist + wide, 0.95 * b.depth),
        (b.hip + wide, b.depth + wide),
    ]
    hem = pelvis - up * wear.hem
    spread = 1 + 0.9 * wear.hem
    if wear.hem > 0.05:
        stations.append(((b.hip + wide) * spread, (b.depth + wide) * spread))
    body.add(neck, hem, [body.section(*s) for s in stations], "torso", nearer=0.02, rounded=False)
    if wear.bottom == "skirt":
        length = (b.hip_height - 0.04) * wear.cover
        flare = wear.flare
        widths = [
            body.section(b.hip * f, b.depth * f) for f in (1.0, 1 + 0.45 * (flare - 0.8), 1 + 0.8 * (flare - 0.8))
        ]
        body.add(pelvis + up * 0.03, pelvis - [0, length, 0], widths, "skirt", nearer=0.015, rounded=False)
    else:
        body.add(
            pelvis + up * 0.03,
            pelvis - [0, 0.05, 0],
            [body.section(b.hip, b.depth)] * 2,
            "leg",
            (0, 0.1),
            nearer=0.012,
            rounded=False,
        )


def _head(body: Body, neck) -> None:
    b, wear, turn = body.person.build, body.person.wear, body.pose.nod
    r = b.head
    top, chin = neck + [0, 0.03 + 2.1 * r, 0.01], neck + [0, 0.03, 0.02]
    oval = [r * 0.78 * w for w in (0.35, 0.75, 0.95, 1.0, 1.0, 0.92, 0.72, 0.4)]
    body.add(neck + [0, 0.045, 0], neck - [0, 0.01, 0], (0.032, 0.036), Slot.SKIN, nearer=0.005)
    body.add(top, chin, oval, "head", turn=turn, nearer=0.03, rounded=False)
    if wear.hair in ("bob", "long"):
        length = 0.05 if wear.hair == "bob" else 0.13
        body.add(
            top - [0, 0.5 * r, 0.3 * r],
            chin - [0, length, 0.4 * r + 0.05],
            (0.75 * r, 0.95 * r, 0.85 * r),
            Slot.HAIR,
            nearer=0.0,
        )
    elif wear.hair == "tail":
        body.add(top - [0, 0.6 * r, r], chin - [0, 0.12, r + 0.05], (0.018, 0.028, 0.012), Slot.HAIR)
    elif wear.hair == "bun":
        body.add(top + [0, 0.2 * r, -0.3 * r], top + [0, 0.3 * r, -0.4 * r], (0.45 * r, 0.45 * r), Slot.HAIR)
    elif wear.hair == "afro":
        body.add(
            top - [0, 0.3 * r, 0.2 * r], top - [0, 1.0 * r, 0.3 * r], (1.15 * r, 1.15 * r), Slot.HAIR, nearer=-0.02
        )
    _hat(body, top, turn)


def _hat(body: Body, top, turn: float) -> None:
    r, hat = body.person.build.head, body.person.wear.hat
    if hat == "none":
        return
    low = top - [0, 0.75 * r, 0]
    crown = (0.5 * r, 0.82 * r, 0.88 * r) if hat == "beanie" else (0.6 * r, 0.85 * r, 0.86 * r)
    body.add(top + [0, 0.25 * r, 0], low, crown, Slot.HAT, nearer=0.04, rounded=False)
    if hat == "cap":
        front = np.array([np.sin(turn), 0, np.cos(turn)]) * 1.6 * r
        body.add(low + [0, 0.1 * r, 0], low + front, (0.5 * r, 0.35 * r), Slot.HAT, nearer=0.04)
    elif hat == "brim":
        body.add(
            low + [0, 0.15 * r, 0], low - [0, 0.1 * r, 0], (1.6 * r, 1.75 * r), Slot.HAT, nearer=0.05, rounded=False
        )


def _bag(body: Body, neck, pelvis, hand) -> None:
    b, wear = body.person.build, body.person.wear
    half, tall = wear.bag_size
    if wear.bag == "backpack":
        top = neck - [0, 0.04, b.depth + 0.035]
        widths = [body.box(half * f, 0.04) for f in (0.7, 1.0, 1.0, 0.95)]
        body.add(top, top - [0, 2.2 * tall, 0], widths, "bag", turn=np.pi, rounded=False)
        for sign in (-1, 1):  # straps
            x = 0.6 * b.shoulder * sign
            body.add(neck + [x, -0.03, b.depth * 0.9], neck + [1.1 * x, -0.18, b.depth], (0.011, 0.011), Slot.BAG_A)
    elif wear.bag == "shoulder":
        place = pelvis + [b.hip + 0.025, 0.04, 0]
        body.add(
            place,
            place - [0, 1.4 * tall, 0],
            [body.box(0.025, half)] * 2,
            "bag",
            turn=np.pi / 2,
            nearer=0.02,
            rounded=False,
        )
        for z in (1, -1):  # the strap crosses chest and back
            body.add(
                neck + [-0.5 * b.shoulder, -0.01, z * 0.7 * b.depth],
                place + [-0.02, 0, z * (b.depth + 0.01)],
                (0.010, 0.010),
                Slot.BAG_A,
            )
    elif wear.bag == "hand":
        body.add(
            hand - [0, 0.03, 0],
            hand - [0, 0.05 + 1.5 * tall, 0],
            [body.box(0.03, half * f) for f in (0.7, 1, 1)],
            "bag",
            turn=np.pi / 2,
            nearer=0.02,
            rounded=False,
        )


def pose_body(person: Identity, pose: Pose) -> list[Tube]:
    """All tubes of the person, far ones first; the person walks on y = 0."""
    body, b = Body(person, pose), person.build
    pelvis = np.array([0.0, b.hip_height, 0.0])
    neck = pelvis + (b.height - b.hip_height - 0.03 - 2.1 * b.head) * np.array(
        [0, np.cos(pose.lean), np.sin(pose.lean)]
    )
    for sign in (-1.0, 1.0):
        _leg(body, pelvis + [0.52 * b.hip * sign, 0, 0], sign)
        reach = b.shoulder - 0.35 * b.arm_radius
        hand = _arm(body, neck + [reach * sign, -0.045, 0], sign)
    _trunk(body, pelvis, neck)
    _head(body, neck)
    _bag(body, neck, pelvis, hand)
    return sorted(body.tubes, key=lambda tube: tube.depth)
