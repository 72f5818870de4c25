#!/usr/bin/env python3
"""Prints what has to be compiled for the tests of some suites; ci/test calls it.

Usage: needs.py BUILD_DIR --suite NAME [--suite NAME]...

One target of Ninja a line, as it has to be named there; nothing where the tests need nothing.
"""

import json
import os
import subprocess
import sys


def introspect(build, what):
    return json.loads(subprocess.run(["meson", "introspect", what, build], check=True, text=True,
                                     stdout=subprocess.PIPE, timeout=60).stdout)


def main(build, *words):
    suites = {word.split(":")[-1] for word in words if word != "--suite"}
    wanted = set()
    for test in introspect(build, "--tests"):
        # A suite is told with its project: "weir:core".
        if suites.intersection(name.split(":")[-1] for name in test["suite"]):
            wanted.update(test["depends"])
    for target in introspect(build, "--targets"):
        if target["id"] in wanted:
            for path in target["filename"]:
                print(os.path.relpath(path, os.path.realpath(build)))


if __name__ == "__main__":
    main(*sys.argv[1:])
