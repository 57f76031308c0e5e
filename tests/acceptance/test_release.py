"""What a release says about itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OTHER_SYSTEMS = {"colorama", "pywin32", "httpx2-jsfetch"}


def test_the_list_of_parts_has_the_licence_of_each(tmp_path: Path) -> None:
    listed = tmp_path / "sbom.json"
    export = [str(ROOT / ".uv/bin/uv"), "export", "-q", "--offline", "--locked", "--no-dev"]
    export += ["--all-extras", "--format", "cyclonedx1.5", "--output-file", str(listed)]
    subprocess.run(export, check=True, cwd=ROOT)
    done = subprocess.run(
        [sys.executable, ROOT / "packaging" / "sbom.py", listed],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    found = json.loads(done.stdout)
    parts = {one["name"]: one for one in found["components"]}
    assert {"libpcap", "pydantic", "cryptography", "boto3", "confluent-kafka"} <= set(parts)
    assert not OTHER_SYSTEMS & set(parts)
    for name, part in parts.items():
        said = part["licenses"][0]["license"]
        assert said.get("id") or said["name"], name
    assert found["metadata"]["timestamp"].startswith("2023-11-14")
