"""BVH files as programs write them."""

from pathlib import Path

# A person of 170 cm who faces +z with y up, named as many exporters do; left is +x.
LEG = """
  JOINT {side}UpLeg {{ OFFSET {x} -5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT {side}Leg {{ OFFSET 0 -40 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT {side}Foot {{ OFFSET 0 -40 0
        CHANNELS 3 Zrotation Xrotation Yrotation
        End Site {{ OFFSET 0 -5 15 }}
      }}
    }}
  }}
"""


ARM = """
    JOINT {side}Shoulder {{ OFFSET {x1} 0 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      JOINT {side}Arm {{ OFFSET {x2} 0 0
        CHANNELS 3 Zrotation Xrotation Yrotation
        JOINT {side}ForeArm {{ OFFSET {x3} 0 0
          CHANNELS 3 Zrotation Xrotation Yrotation
          End Site {{ OFFSET {x3} 0 0 }}
        }}
      }}
    }}
"""


def hierarchy() -> str:
    arms = "".join(ARM.format(side=side, x1=5 * x, x2=13 * x, x3=28 * x) for side, x in (("Left", 1), ("Right", -1)))
    trunk = f"""
  JOINT Spine {{ OFFSET 0 50 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    {arms}
    JOINT Head {{ OFFSET 0 10 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site {{ OFFSET 0 20 0 }}
    }}
  }}"""
    legs = "".join(LEG.format(side=side, x=x) for side, x in (("Left", 10), ("Right", -10)))
    channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"
    text = f"HIERARCHY\nROOT Hips {{ OFFSET 0 0 0\n {channels}\n{legs}{trunk}\n}}\n"
    return text.replace("{", "\n{\n").replace("}", "\n}\n")


def write_bvh_file(path: Path, frames: list[dict[str, tuple[float, ...]]], text: str | None = None) -> Path:
    """Frames give channels by the joint; what they leave out is zero."""
    text = hierarchy() if text is None else text
    words = text.split()
    joints = [words[place + 1] for place, word in enumerate(words) if word in ("ROOT", "JOINT")]
    lines = []
    for frame in frames:
        values = [frame.get(joint, (0.0,) * (6 if joint == "Hips" else 3)) for joint in joints]
        lines.append(" ".join(str(value) for channels in values for value in channels))
    path.write_text(text + f"MOTION\nFrames: {len(frames)}\nFrame Time: 0.1\n" + "\n".join(lines) + "\n")
    return path


REST, BENT = {}, {"LeftUpLeg": (0, -90, 0), "LeftLeg": (0, 90, 0), "Hips": (1, 2, 3, 0, 0, 0)}
