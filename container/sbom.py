"""Print what pip installed in this image, as a bill of materials: CycloneDX 1.5, JSON."""

import json
import sys
from importlib.metadata import distributions

found = {each.metadata["Name"]: each.version for each in distributions()}
components = [
    {
        "type": "library",
        "name": name,
        "version": found[name],
        "purl": f"pkg:pypi/{name.lower().replace('_', '-')}@{found[name]}",
    }
    for name in sorted(found, key=str.lower)
    if name != "nextwatch"
]
subject = {"type": "application", "name": "nextwatch", "version": found["nextwatch"]}
json.dump(
    {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": subject},
        "components": components,
    },
    sys.stdout,
    indent=1,
)
