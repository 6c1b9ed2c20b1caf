#!/usr/bin/env python3
"""Prints the bill of materials of one executable, as CycloneDX 1.5 JSON.

    scripts/sbom.py TARGET EXECUTABLE

It lists what is in the executable: crates linked in (no build, test or macro dependencies), with the
checksum that Cargo.lock pins, and the C libraries that three of the crates carry. The same commit and
executable give the same document.
"""

import datetime
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import uuid
from pathlib import Path


def main(target, executable):
    packages = {
        (p["name"], p["version"]): p
        for p in json.loads(run("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))["packages"]
    }
    checksums = {
        (p["name"], p["version"]): p.get("checksum")
        for p in tomllib.loads(Path("Cargo.lock").read_text())["package"]
    }
    edges = linked_crates(target)
    root = next(iter(edges))

    crates = [crate(packages[key], checksums[key]) for key in sorted(edges) if key != root]
    bundled, carried_by = bundled_c(packages)
    dependencies = [
        {"ref": ref(key), "dependsOn": sorted(map(ref, edges[key])) + carried_by.get(key[0], [])} for key in sorted(edges)
    ] + [{"ref": c["bom-ref"], "dependsOn": []} for c in bundled]

    digest = hashlib.sha256(Path(executable).read_bytes()).hexdigest()
    product = crate(packages[root], None) | {"type": "application"}
    product["hashes"] = [{"alg": "SHA-256", "content": digest}]
    product["properties"] = [{"name": "strongroom:target", "value": target}]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": "urn:uuid:" + str(uuid.uuid5(uuid.NAMESPACE_OID, digest)),
        "version": 1,
        "metadata": {
            "timestamp": time_of_commit(),
            "tools": {"components": [{"type": "application", "name": "scripts/sbom.py"}]},
            "component": product,
        },
        "components": crates + bundled,
        "dependencies": dependencies,
    }
    json.dump(document, sys.stdout, indent=1)
    print()


def linked_crates(target):
    """Each crate in the executable, the root first, with the crates it uses.

    Cargo's own tree decides, since it knows which features are on; `cargo metadata` does not.
    """
    lines = run(
        "cargo", "tree", "--locked", f"--target={target}", "--edges=normal,no-proc-macro",
        "--prefix=depth", "--no-dedupe", "--format= {p}",
    ).splitlines()  # fmt: skip
    edges, path = {}, []
    for line in lines:
        depth, name, version = re.match(r"(\d+) (\S+) v(\S+)", line).groups()
        path = path[: int(depth)] + [(name, version)]
        edges.setdefault(path[-1], set())
        if len(path) > 1:
            edges[path[-2]].add(path[-1])
    return edges


def ref(key):
    return f"pkg:cargo/{key[0]}@{key[1].replace('+', '%2B')}"


def crate(package, checksum):
    key = package["name"], package["version"]
    component = {"type": "library", "bom-ref": ref(key), "name": key[0], "version": key[1], "purl": ref(key)}
    if package["license"]:
        component["licenses"] = [{"expression": spdx(package["license"])}]
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return component


def spdx(text):
    """Old crates write `MIT/Apache-2.0` for a choice."""
    return re.sub(r"\s*/\s*", " OR ", text)


def bundled_c(packages):
    """C libraries in the executable, and for each crate that links them their references."""
    folder = {name: Path(p["manifest_path"]).parent for (name, _), p in packages.items()}
    sqlite = (folder["sqlcipher-src"] / "sqlcipher/sqlcipher.c").read_text(errors="replace")
    awslc = (folder["aws-lc-sys"] / "aws-lc/include/openssl/base.h").read_text()
    openssl = dict(
        line.split("=", 1) for line in (folder["openssl-src"] / "openssl/VERSION.dat").read_text().splitlines() if "=" in line
    )
    found = [
        ("libsqlite3-sys", "sqlite", first(r'#define SQLITE_VERSION\s+"([^"]+)"', sqlite), "blessing"),
        ("libsqlite3-sys", "sqlcipher", first(r"#define CIPHER_VERSION_NUMBER\s+(\S+)", sqlite), "BSD-3-Clause"),
        ("openssl-sys", "openssl", f"{openssl['MAJOR']}.{openssl['MINOR']}.{openssl['PATCH']}", "Apache-2.0"),
        ("aws-lc-sys", "aws-lc", first(r'AWSLC_VERSION_NUMBER_STRING\s+"([^"]+)"', awslc),
         packages[next(k for k in packages if k[0] == "aws-lc-sys")]["license"]),
    ]  # fmt: skip
    components, carried_by = [], {}
    for carrier, name, version, licence in found:
        purl = f"pkg:generic/{name}@{version}"
        components.append({
            "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
            "licenses": [{"expression": licence}],
        })  # fmt: skip
        carried_by.setdefault(carrier, []).append(purl)
    return components, carried_by


def first(pattern, text):
    match = re.search(pattern, text)
    if not match:
        sys.exit(f"sbom: no version of a bundled library: nothing matches {pattern}")
    return match[1]


def time_of_commit():
    seconds = int(run("git", "show", "--no-patch", "--format=%ct", "HEAD"))
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main(*sys.argv[1:])
