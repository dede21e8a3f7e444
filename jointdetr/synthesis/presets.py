"""Which activities a preset draws, and how often: data only."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Activity:
    """A posture of the body with a gesture of the arms.

    Args:
        posture: A name of `postures.POSTURES`.
        gesture: A name of `gestures.GESTURES`, of one arm or of both.
        idle: The gesture of the arm that takes no part.
        weight: How often it is drawn, relative to the others.
    """

    posture: str
    gesture: str
    idle: str
    weight: float

    @property
    def name(self) -> str:
        """As "sitting, phoning"."""
        return f"{self.posture}, {self.gesture}"


@dataclass(frozen=True)
class Preset:
    """A mixture of activities, and how tall the people are (metres)."""

    activities: tuple[Activity, ...]
    stature_m: tuple[float, float]


UPRIGHT = {
    "arms hanging": 0.16,
    "talking": 0.15,
    "reaching": 0.14,
    "reaching up": 0.05,
    "waving": 0.08,
    "phoning": 0.07,
    "eating": 0.08,
    "photographing": 0.05,
    "touching the head": 0.03,
    "arms crossed": 0.04,
    "hands joined": 0.05,
    "holding": 0.09,
    "hands on hips": 0.04,
    "hands behind": 0.02,
    "arms anywhere": 0.05,
}
SEATED = {
    "hands on thighs": 0.20,
    "talking": 0.15,
    "reaching": 0.12,
    "waving": 0.05,
    "phoning": 0.09,
    "eating": 0.12,
    "photographing": 0.04,
    "touching the head": 0.03,
    "arms crossed": 0.05,
    "hands joined": 0.05,
    "holding": 0.07,
    "arms anywhere": 0.03,
}
STRIDING = {**UPRIGHT, "arms hanging": 0.6}
BENT = {"arms hanging": 0.3, "reaching": 0.3, "holding": 0.15, "talking": 0.1, "hands on hips": 0.05, "phoning": 0.1}
LOW = {"hands on thighs": 0.3, "reaching": 0.2, "talking": 0.15, "holding": 0.15, "phoning": 0.1, "arms hanging": 0.1}
UNBOUND = {"arms anywhere": 0.7, "reaching": 0.1, "reaching up": 0.2}
ON_HANDS = {"on hands": 0.8, "reaching": 0.2}

# Posture: what idle arms do, and what the others do.
GESTURES_OF = {
    "standing": ("arms hanging", UPRIGHT),
    "walking": ("arms hanging", STRIDING),
    "leaning": ("arms hanging", BENT),
    "sitting": ("hands on thighs", SEATED),
    "crouching": ("hands on thighs", LOW),
    "kneeling": ("hands on thighs", LOW),
    "sitting on the ground": ("hands on thighs", LOW),
    "crawling": ("on hands", ON_HANDS),
    "lying": ("arms hanging", UNBOUND),
    "jumping": ("arms anywhere", UNBOUND),
    "moving freely": ("arms anywhere", UNBOUND),
}


def _activities(postures: dict[str, float]) -> tuple[Activity, ...]:
    """Every posture with each of its gestures, postures as often as their weights say."""
    return tuple(
        Activity(posture, gesture, idle, weight * share / sum(gestures.values()))
        for posture, weight in postures.items()
        for idle, gestures in [GESTURES_OF[posture]]
        for gesture, share in gestures.items()
    )


PRESETS = {
    "everyday": Preset(
        activities=_activities(
            {
                "standing": 0.36,
                "walking": 0.20,
                "leaning": 0.11,
                "sitting": 0.22,
                "crouching": 0.03,
                "kneeling": 0.03,
                "sitting on the ground": 0.05,
            }
        ),
        stature_m=(1.45, 2.05),
    ),
    "everything": Preset(
        activities=_activities(
            {
                "standing": 0.20,
                "walking": 0.12,
                "leaning": 0.08,
                "sitting": 0.12,
                "crouching": 0.06,
                "kneeling": 0.05,
                "sitting on the ground": 0.06,
                "crawling": 0.04,
                "lying": 0.06,
                "jumping": 0.06,
                "moving freely": 0.15,
            }
        ),
        stature_m=(1.1, 2.05),
    ),
}

PRESETS["nobody"] = PRESETS["everyday"]  # who would stand in the empty rooms
