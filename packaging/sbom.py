"""Completes a list of parts (CycloneDX): packaging/sbom.py FILE.

It adds the libpcap of the packages, and the licence of each library, as the installed library says
it. Libraries for other systems are left out. The time and the serial number are those of the
commit, so that the same commit makes the same file.
"""

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ELSEWHERE = re.compile(r"sys_platform == '(win32|emscripten)'|python_full_version < '3\.11")
"""Markers of libraries that are installed nowhere where the program runs."""

CLASSIFIER = "License :: OSI Approved :: "


def licence(name: str) -> str:
    """Return what an installed library says about its licence; exit if it says nothing."""
    try:
        about = metadata(name)
    except PackageNotFoundError:
        sys.exit(f"error: {name} is not installed, so its licence is unknown: run scripts/setup")
    classifiers = [
        one.removeprefix(CLASSIFIER)
        for one in about.get_all("Classifier") or []
        if one.startswith(CLASSIFIER)
    ]
    found = about["License-Expression"] or about["License"] or " AND ".join(classifiers)
    return str(found).partition("\n")[0] if found else sys.exit(f"error: {name} names no licence")


def is_part(component: dict) -> bool:
    """Return whether a library is installed on Linux, with Python 3.11.3 or later."""
    markers = [
        one["value"]
        for one in component.get("properties", [])
        if one["name"] == "uv:package:marker"
    ]
    return not any(ELSEWHERE.search(one) for one in markers)


script = (Path(__file__).parent / "libpcap").read_text()
version = re.search(r"^version=(\S+)", script, re.MULTILINE)[1]
digest = re.search(r"^sha256=(\S+)", script, re.MULTILINE)[1]
found = json.loads(Path(sys.argv[1]).read_text())
found["components"] = [one for one in found["components"] if is_part(one)]
for one in found["components"]:
    one["licenses"] = [{"license": {"name": licence(one["name"])}}]
found["components"].append(
    {
        "type": "library",
        "bom-ref": f"libpcap@{version}",
        "name": "libpcap",
        "version": version,
        "licenses": [{"license": {"id": "BSD-3-Clause"}}],
        "hashes": [{"alg": "SHA-256", "content": digest}],
        "purl": f"pkg:generic/libpcap@{version}",
        "cpe": f"cpe:2.3:a:tcpdump:libpcap:{version}:*:*:*:*:*:*:*",
    }
)
epoch = int(os.environ["SOURCE_DATE_EPOCH"])
found["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).isoformat()
parts = json.dumps(found["components"])
found["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, parts)}"
json.dump(found, sys.stdout, indent=2)
