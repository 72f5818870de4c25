#!/usr/bin/env python3
"""Counts what a run of `meson test` did, behaviour by behaviour; ci/test calls it.

Usage: tally.py TESTLOG.json [EXPECTED [FAILURES]]

Reads Meson's log (one JSON object a line). A program that speaks TAP counts once for each of its
lines, any other counts once. A program that fails without saying so in TAP (a crash, a timeout, a
plan not kept) counts as one failure more. With EXPECTED, the number of programs that were to run,
those missing from the log count as failures: a run that was cut short is not a pass.

Names failures and skips on stderr, adds the failures to the file FAILURES, and prints
`PASSED FAILED SKIPPED` on stdout.
"""

import json
import re
import sys

TAP_LINE = re.compile(r"^(not )?ok\b\s*(\d+)?\s*-?\s*([^#]*)(?:#\s*(\S+)\s*(.*))?$")
TAP_PLAN = re.compile(r"^1\.\.(\d+)\s*(?:#\s*skip\w*\s*(.*))?$", re.IGNORECASE)
GOOD = {"OK", "EXPECTEDFAIL"}
DURATION = re.compile(r"\s*\(\d+\.\d+s\)$")
DIAGNOSTICS = 12


told = {}  # what was said, and how often: a parameterized test fails once for each parameter


def tell(*words):
    line = " ".join(("weir:", *words))
    told[line] = told.get(line, 0) + 1


def tell_now(failures=None):
    for line, times in told.items():
        line += f"  ({times} times)" if times > 1 else ""
        print(line, file=sys.stderr)
        if failures and not line.startswith("weir: skipped:"):
            print(line, file=failures)
    told.clear()


def count_tap(name, text):
    """The counts of one program's TAP, or None if it does not speak TAP."""
    passed = failed = skipped = 0
    planned = None
    explain = 0  # how many more lines of the last failure's diagnostics to show
    for line in text.splitlines():
        if line.startswith("#"):
            if explain > 0:
                tell("   ", line[1:].strip())
            explain -= 1
            continue
        explain = 0
        plan = TAP_PLAN.match(line)
        if plan:
            planned = int(plan[1])
            if planned == 0:
                skipped += 1
                tell("skipped:", name, "-", plan[2] or "no reason given")
            continue
        result = TAP_LINE.match(line)
        if not result:
            continue
        said = (result[4] or "").upper()
        what = f"{name}: {DURATION.sub('', result[3].strip())}"
        if said.startswith("SKIP"):
            skipped += 1
            tell("skipped:", what, "-", result[5] or "no reason given")
        elif result[1] and not said.startswith("TODO"):
            failed += 1
            tell("FAILED:", what)
            explain = DIAGNOSTICS
        else:
            passed += 1
    return None if planned is None else (passed, failed, skipped)


def count_program(entry):
    """PASSED, FAILED, SKIPPED of one line of the log."""
    name, verdict = entry["name"], entry["result"]
    counts = count_tap(name, entry.get("stdout") or "")
    if counts is None:
        if verdict == "SKIP":
            reason = (entry.get("stdout") or entry.get("stderr") or "").strip().splitlines()
            tell("skipped:", name, "-", reason[-1] if reason else "no reason given")
            return 0, 0, 1
        if verdict in GOOD:
            return 1, 0, 0
        tell(f"FAILED: {name} ({verdict.lower()}, exit {entry.get('returncode')})")
        return 0, 1, 0
    if verdict not in GOOD | {"SKIP"} and counts[1] == 0:
        tell(f"FAILED: {name} ({verdict.lower()}, exit {entry.get('returncode')})")
        return counts[0], 1, counts[2]
    return counts


def main(log_path, expected=0, failures=None):
    totals = [0, 0, 0]
    programs = 0
    with open(log_path, encoding="utf-8", errors="replace") as log:
        for line in log:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            programs += 1
            totals = [a + b for a, b in zip(totals, count_program(entry))]
            tell_now(failures)
    if programs < expected:
        tell(f"FAILED: {expected - programs} of {expected} test programs did not end")
        totals[1] += expected - programs
    tell_now(failures)
    print(*totals)


if __name__ == "__main__":
    expected_programs = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    if len(sys.argv) > 3:
        with open(sys.argv[3], "a", encoding="utf-8") as failures_file:
            main(sys.argv[1], expected_programs, failures_file)
    else:
        main(sys.argv[1], expected_programs)
