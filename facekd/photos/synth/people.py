"""Who the people are: everything about a person that stays the same from photo to photo.

Lengths are in head units: 1 is about 100 mm. The head's own axes are x to the picture's right, y up and
z out of the face, with the origin inside the skull, a little below the eyes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PERSON, PHOTO, GRAIN = 1, 2, 3  # which stream of random numbers: the person, one photo, the skin's and hair's grain

# sRGB, from the lightest skin to the darkest.
SKIN = np.array(
    [[243, 206, 190], [231, 186, 162], [213, 163, 133], [188, 135, 103], [156, 105, 76], [118, 76, 54], [84, 54, 40]]
)
# sRGB: black, dark brown, brown, chestnut, dark blond, blond, red, auburn.
HAIR = np.array([
    [26, 22, 22], [48, 33, 26], [84, 56, 38], [112, 66, 40],
    [146, 110, 70], [198, 164, 110], [156, 74, 38], [98, 40, 30],
])  # fmt: skip
IRIS = np.array([[62, 38, 24], [92, 60, 32], [128, 100, 58], [96, 116, 74], [88, 120, 148], [118, 134, 142]])

# Thickness of the hair on top and at the sides, how low it reaches at the sides (y), hides the ears.
STYLES: dict[str, tuple[float, float, float, bool]] = {
    "bald": (0.0, 0.0, 0.0, False),
    "horseshoe": (0.0, 0.06, -0.15, False),
    "buzz": (0.03, 0.02, -0.15, False),
    "short": (0.11, 0.05, -0.18, False),
    "swept": (0.22, 0.05, -0.18, False),
    "fringe": (0.14, 0.08, -0.25, False),
    "curly": (0.24, 0.15, -0.25, False),
    "afro": (0.50, 0.42, -0.40, True),
    "bob": (0.17, 0.20, -0.85, True),
    "long": (0.15, 0.15, -1.05, True),
    "tied": (0.06, 0.05, -0.20, False),
}
FEMALE = {"long": 6, "bob": 4, "tied": 3, "curly": 2, "afro": 1, "fringe": 1, "swept": 1, "short": 1, "buzz": 0.3}
MALE = {"short": 6, "swept": 4, "buzz": 3, "fringe": 2, "curly": 2, "bald": 1.5, "horseshoe": 1, "afro": 1, "long": 0.6}
BEARDS = ("none", "stubble", "full", "goatee", "moustache")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnPerson:
    """A person who does not exist. Colors are sRGB in 0..255, angles in radians, lengths in head units."""

    seed: int
    index: int
    age: float  # years
    # skull, jaw, cheeks
    width: float
    top: float
    chin: float
    depth: float
    jaw: float
    square: float
    temple: float
    chin_out: float
    chin_dent: float
    cheekbone: float
    cheek_full: float
    brow_ridge: float
    # eyes and brows
    eye_x: float
    eye_y: float
    eye_w: float
    eye_open: float
    eye_tilt: float
    eye_deep: float
    crease: float
    hooded: float
    iris_r: float
    iris: tuple[float, float, float]
    lashes: float
    brow_gap: float
    brow_thick: float
    brow_arch: float
    brow_len: float
    brow_tilt: float
    brow_dense: float
    # nose, mouth, ears
    nose_y: float
    nose_w: float
    nose_out: float
    bridge_w: float
    bridge_out: float
    nose_bump: float
    nose_up: float
    mouth_y: float
    mouth_w: float
    lip_up: float
    lip_low: float
    lip_bow: float
    lip_tilt: float
    lip_red: float
    neck: float
    ear: float
    ear_out: float
    # skin
    skin: tuple[float, float, float]
    ruddy: float
    freckles: float
    moles: int
    makeup: float
    # hair
    style: str
    hair: tuple[float, float, float]
    hairline: float
    recede: float
    parting: float
    volume: float
    curl: float
    length: float
    beard: str
    beard_dense: float
    # habits
    glasses: float  # how often
    frame: int  # which frame, 0..5


def person(seed: int, index: int) -> DrawnPerson:
    """DrawnPerson number `index` of the population `seed`: a pure function of the two.

    Args:
        seed: of the population, 0 or more.
        index: of the person, 0 or more.
    """
    rng = stream(seed, index, PERSON)

    def normal(mean: float, sd: float, reach: float = 2.3) -> float:
        return float(mean + sd * np.clip(rng.normal(), -reach, reach))

    def mix(table: np.ndarray, place: float) -> np.ndarray:
        low = min(int(place), len(table) - 2)
        return np.asarray(table[low] + (table[low + 1] - table[low]) * (place - low), float)

    male = bool(rng.random() < 0.5)
    m = float(np.clip(rng.normal(0.85 if male else 0.15, 0.2), 0, 1))  # how masculine the bones are
    age = float(np.clip(18 + rng.gamma(2.2, 10.0), 18, 80))
    tone = float(rng.beta(1.1, 1.5)) * (len(SKIN) - 1)
    skin = mix(SKIN, tone) * np.clip(rng.normal(1, [0.035, 0.025, 0.045]), 0.88, 1.12)
    dark = tone / (len(SKIN) - 1)

    weights = np.array([4, 4, 3, 1.8, 4 * (1 - dark), 4 * (1 - dark) ** 2, 1.6 * (1 - dark), 0.9])
    if dark > 0.55:
        weights[3:] *= 0.15
    hair = HAIR[rng.choice(len(HAIR), p=weights / weights.sum())] * rng.normal(1, 0.08)
    gray = float(np.clip((age - 42) / 30 + rng.normal(0, 0.2), 0, 1)) if rng.random() < 0.8 else 0.0
    hair = hair * (1 - gray) + np.array([186.0, 184.0, 180.0]) * gray * (0.75 if dark < 0.6 else 0.6)

    eyes = np.array([5, 4, 2 * (1 - dark), 1.5 * (1 - dark), 3 * (1 - dark) ** 2, 1.5 * (1 - dark) ** 2])
    iris = IRIS[rng.choice(len(IRIS), p=eyes / eyes.sum())] * rng.normal(1, 0.08)

    table = MALE if male else FEMALE
    names = list(table)
    odds = np.array([table[name] for name in names], float)
    if dark < 0.35:
        odds[names.index("afro")] *= 0.15
    if male and age < 32:
        odds[[names.index("bald"), names.index("horseshoe")]] *= 0.15
    style = names[rng.choice(len(names), p=odds / odds.sum())]
    beard = BEARDS[rng.choice(5, p=[0.42, 0.2, 0.2, 0.1, 0.08])] if male else "none"
    asian = float(rng.random() < 0.28) * float(rng.uniform(0.5, 1))  # a fold-less lid, as a trait of its own

    return DrawnPerson(
        seed=seed, index=index, age=age,
        width=normal(0.735 + 0.025 * m, 0.035), top=normal(1.13, 0.05), chin=normal(1.07 + 0.06 * m, 0.065),
        depth=normal(0.94, 0.03), jaw=normal(0.74 + 0.12 * m, 0.085), square=normal(2.25 + 0.3 * m, 0.16),
        temple=normal(0.96, 0.035), chin_out=normal(0.04 + 0.03 * m, 0.035),
        chin_dent=float(rng.random() < 0.2 * m) * 0.03,
        cheekbone=normal(0.035, 0.03), cheek_full=normal(0.0, 0.05), brow_ridge=normal(0.015 + 0.04 * m, 0.015),
        eye_x=normal(0.318, 0.022), eye_y=normal(0.10, 0.02), eye_w=normal(0.186 - 0.008 * m, 0.014),
        eye_open=normal(0.088 - 0.015 * m - 0.012 * asian, 0.012), eye_tilt=normal(0.06 + 0.06 * asian, 0.075),
        eye_deep=normal(0.085 - 0.04 * asian, 0.03), crease=float(np.clip(normal(0.7 - 0.7 * asian, 0.25), 0, 1)),
        hooded=float(np.clip(normal(0.2 + 0.4 * asian + 0.006 * (age - 40), 0.25), 0, 1)),
        iris_r=normal(0.072, 0.003), iris=_color(iris), lashes=normal(0.75 - 0.4 * m, 0.12),
        brow_gap=normal(0.185 - 0.035 * m, 0.026), brow_thick=normal(0.03 + 0.014 * m, 0.009),
        brow_arch=normal(0.045 - 0.02 * m, 0.022), brow_len=normal(0.205, 0.018), brow_tilt=normal(0.05, 0.1),
        brow_dense=float(np.clip(normal(0.75, 0.18), 0.3, 1)),
        nose_y=normal(-0.31 - 0.03 * m, 0.04), nose_w=normal(0.165 + 0.02 * m + 0.035 * dark, 0.024),
        nose_out=normal(0.185 + 0.025 * m - 0.02 * dark, 0.035), bridge_w=normal(0.085 + 0.02 * dark, 0.014),
        bridge_out=normal(0.1 - 0.03 * dark - 0.03 * asian, 0.025), nose_bump=normal(0.005, 0.016),
        nose_up=normal(0.0, 0.025),
        mouth_y=normal(-0.625, 0.035), mouth_w=normal(0.245 + 0.01 * m, 0.026),
        lip_up=max(0.018, normal(0.05 - 0.014 * m + 0.018 * dark, 0.015)),
        lip_low=max(0.03, normal(0.074 - 0.012 * m + 0.018 * dark, 0.017)),
        lip_bow=float(np.clip(normal(0.5, 0.3), 0, 1)), lip_tilt=normal(0.0, 0.25),
        lip_red=float(np.clip(normal(0.6 - 0.2 * m, 0.2), 0.1, 1)),
        neck=normal(0.42 + 0.09 * m, 0.03),
        ear=normal(1.0 + 0.003 * (age - 40), 0.13), ear_out=float(np.clip(normal(0.13, 0.05), 0.04, 0.26)),
        skin=_color(skin), ruddy=float(np.clip(normal(0.4, 0.3), 0, 1)),
        freckles=float(rng.random() < 0.3 * (1 - dark)) * float(rng.uniform(0.3, 1)),
        moles=int(rng.choice([0, 1, 2, 3, 5], p=[0.4, 0.25, 0.2, 0.1, 0.05])),
        makeup=0.0 if male else float(rng.choice([0, 1])) * float(rng.uniform(0.2, 1)),
        style=style, hair=_color(hair), hairline=normal(0.66, 0.06),
        recede=float(np.clip(normal(0.004 * (age - 30) * m, 0.08), 0, 0.3)),
        parting=float(rng.choice([-1, 0, 1])) * float(rng.uniform(0.5, 1)), volume=normal(1, 0.2),
        curl=float(rng.uniform(0, 1)) if style not in ("afro", "curly") else 1.0, length=float(rng.uniform(1.3, 2.3)),
        beard=beard, beard_dense=float(rng.uniform(0.6, 1)),
        glasses=float(rng.choice([0.02, 0.9], p=[0.75, 0.25])), frame=int(rng.integers(6)),
    )  # fmt: skip


def stream(seed: int, index: int, which: int, photo: int = 0) -> np.random.Generator:
    """Random numbers that depend on these four numbers and on nothing else."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, which, photo])))


def _color(rgb: np.ndarray) -> tuple[float, float, float]:
    red, green, blue = np.clip(rgb, 4, 252)
    return float(red), float(green), float(blue)
