"""Solves with rattler: `plan.py CHANNEL SUBDIR SPEC` prints the files and the seconds that it took, with everything read
anew and once more with the index in memory; with an empty SPEC it solves for every name of the channel by itself, for four
minutes at most, and prints the names that take most packages, most first."""

import asyncio
import json
import os
import pathlib
import sys
import tempfile
import time
import traceback

from rattler import BuildString, Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, Platform, Version, solve

BASE, SUBDIR, SPEC = sys.argv[1:4]
SECONDS = 240
# What `plan` believes of a machine of which it is told nothing.
VIRTUAL = [("__unix", "0", "0"), ("__linux", "4.18", "0"), ("__glibc", "2.28", "0"), ("__archspec", "1", "x86_64")]
PACKAGES = [GenericVirtualPackage(PackageName(n), Version(v), BuildString(b)) for n, v, b in VIRTUAL]


async def files(spec, gateway):
    records = await solve(
        [Channel("file://" + BASE)],
        [MatchSpec(spec)],
        gateway=gateway,
        platforms=[Platform(SUBDIR), Platform("noarch")],
        virtual_packages=PACKAGES,
    )
    return sorted(f"{record.subdir}/{record.file_name}" for record in records)


def names():
    found = set()
    for subdir in (SUBDIR, "noarch"):
        index = json.loads(pathlib.Path(BASE, subdir, "repodata.json").read_text())
        for table in ("packages", "packages.conda"):
            found.update(record["name"] for record in index.get(table, {}).values())
    return sorted(found)


async def main():
    gateway = Gateway(cache_dir=pathlib.Path(tempfile.mkdtemp(dir=os.getcwd())))
    began = time.time()
    if SPEC:
        await files(SPEC, gateway)
        cold, again = time.time() - began, time.time()
        chosen = await files(SPEC, gateway)
        return {"files": chosen, "cold": round(cold, 3), "warm": round(time.time() - again, 3)}
    sizes = []
    for name in names():
        if time.time() - began > SECONDS:
            break
        try:
            sizes.append((-len(await files(name, gateway)), name))
        except Exception:
            # It needs what the channel lacks.
            continue
    return [name for _, name in sorted(sizes)[:10]]


# The client's own threads sometimes abort the interpreter while it shuts down, when all is done.
try:
    print(json.dumps(asyncio.run(main())), flush=True)
except BaseException:
    traceback.print_exc()
    os._exit(1)
os._exit(0)
