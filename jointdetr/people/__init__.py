"""Who is in a picture, and what to say of them.

`find_people` serves the pipeline, the command line, the demo, films and data sets; it lies flat in the package, as the
pipeline travels with a checkpoint. In this room are the words in which people are told what was found.
"""

from ..people_jointdetr import (
    LIMITS,
    PEOPLE,
    PeopleRequest,
    SearchLimits,
    Sightings,
    detect_people,
    find_people,
    load_detector,
    search_people,
)

__all__ = [
    "LIMITS",
    "PEOPLE",
    "PeopleRequest",
    "SearchLimits",
    "Sightings",
    "detect_people",
    "find_people",
    "load_detector",
    "search_people",
]
