"""What the page says of the model: read from its card, so that page and card never disagree."""

import re

from .settings import DemoSettings

TITLE = """# Photo in, 3D skeleton out

Give a picture or a film of people, or stand before your camera; turn the skeletons in 3D, take them home as files."""
OWN_SECTIONS = ("Numbers", "Limits")
NOT_FOR = "Not for identifying people, nor for medical or safety decisions."


def notice(settings: DemoSettings) -> str:
    """Return what a visitor must know before trusting a number, in a sentence or two."""
    if settings.model:
        return f"Model: `{settings.model}`; what it can do is said in its card. {NOT_FOR}"
    error = re.search(r"^\| this checkpoint \| ([\d.]+)", settings.card.read_text(encoding="utf-8"), re.MULTILINE)
    if error is None:
        raise ValueError(f"{settings.card} has no row `| this checkpoint | MPJPE | ...`")
    return (
        f"This is the small model of the package. In its test joints are {float(error[1]):.0f} mm off in the mean: "
        "see the tab About for what it was tested on and what it cannot do. It does best on one upright adult who "
        f"is seen whole; wrists and ankles are its weakest joints. {NOT_FOR}"
    )


def about_model(settings: DemoSettings) -> str:
    """Return the sections of the model's card with its numbers and limits, as Markdown."""
    if not settings.card.is_file():
        return f"See the model's card: [{settings.model}](https://huggingface.co/{settings.model})."
    text = settings.card.read_text(encoding="utf-8")
    sections = "\n\n".join(section for title in OWN_SECTIONS if (section := card_section(text, title)))
    return sections.replace("@", "&#64;")  # PCK@0.2 is no address


def card_section(text: str, title: str) -> str:
    """Return the section `## title` of a Markdown text, heading included; empty if there is none."""
    section = re.search(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return section[0].strip() if section else ""
