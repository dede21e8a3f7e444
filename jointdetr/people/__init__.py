"""Who is in a picture, and what to say of them.

One way to find people serves the pipeline, the command line, the demo, films and data sets: `find_people`. It lies
flat in the package (`people_jointdetr.py`), because the pipeline needs it and travels with a
checkpoint, which can carry flat files alone. In this room are the words in which people are told what was found.
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
