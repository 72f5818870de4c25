#!/usr/bin/env python3
"""The static tracepoints are in the libraries, each with its arguments. TAP.

Usage: probes.py WHY_NOT|- LIBRARY...
"""
import re
import shutil
import subprocess
import sys

PROBES = {"task__spawn": 3, "task__resume": 1, "task__suspend": 1, "task__wait": 3, "task__end": 1,
          "op__submit": 3, "op__complete": 3, "wait__enter": 2, "wait__leave": 2,
          "scope__cancel": 2, "trim": 3}


def main(why_not, *libraries):
    print("1..%d" % len(PROBES))
    if why_not == "-" and not shutil.which("readelf"):
        why_not = "no readelf here"
    if why_not != "-":
        for number, name in enumerate(PROBES, 1):
            print("ok %d - %s # SKIP %s" % (number, name, why_not))
        return 0
    notes = "".join(subprocess.run(["readelf", "-nW", library], stdout=subprocess.PIPE, text=True,
                                   check=True, timeout=60).stdout for library in libraries)
    found = {}
    for name, arguments in re.findall(
            r"Provider: weir\s+Name: (\w+)\s+Location:[^\n]*\s+Arguments: ([^\n]*)", notes):
        found.setdefault(name, arguments)
    failed = 0
    for number, (name, count) in enumerate(PROBES.items(), 1):
        good = name in found and len(re.findall(r"-?\d+@", found[name])) == count
        failed += not good
        print("%s %d - %s with %d arguments" % ("ok" if good else "not ok", number, name, count))
        if not good:
            print("# found: %s" % found.get(name))
    for name in set(found) - set(PROBES):
        failed += 1
        print("# a probe that is not tested: " + name)
    return 1 if failed else 0


sys.exit(main(*sys.argv[1:]))
