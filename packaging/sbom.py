"""Adds the libpcap of the packages to a list of parts (CycloneDX): packaging/sbom.py FILE.

The time and the serial number are those of the commit, so that the same commit makes the same file.
"""

import json
import os
import re
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

script = (Path(__file__).parent / "libpcap").read_text()
version = re.search(r"^version=(\S+)", script, re.MULTILINE)[1]
digest = re.search(r"^sha256=(\S+)", script, re.MULTILINE)[1]
found = json.loads(Path(sys.argv[1]).read_text())
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
