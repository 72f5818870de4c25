#!/usr/bin/env python3
"""What ci/tally.py counts, from logs made up here. Prints TAP."""

import json
import pathlib
import subprocess
import sys
import tempfile

TALLY = pathlib.Path(__file__).resolve().parents[2] / "ci" / "tally.py"


def program(stdout="", result="OK", returncode=0):
    return {"name": "p", "stdout": stdout, "result": result, "returncode": returncode}


CASES = [
    ("each TAP line counts", [program("1..3\nok - a\nok 2 - b\nok 3 - c # SKIP no ring\n")], 0,
     "2 0 1"),
    ("a failed TAP line counts as one failure",
     [program("1..2\nok 1 - a\nnot ok 2 - b\n", "FAIL", 1)], 0, "1 1 0"),
    ("a crash after good lines is a failure", [program("1..2\nok 1 - a\n", "ERROR", -11)], 0,
     "1 1 0"),
    ("a plan of none is a skip", [program("1..0 # SKIP no libuv\n", "SKIP")], 0, "0 0 1"),
    ("a program without TAP counts once", [program("hello\n"), program("", "SKIP", 77)], 0,
     "1 0 1"),
    ("a timeout is a failure", [program("", "TIMEOUT", -15)], 0, "0 1 0"),
    ("what was to run and did not is a failure", [program()], 3, "1 2 0"),
    ("a log cut off in the middle of a line is read up to there", [program(), '{"name": "q", "st'],
     2, "1 1 0"),
    ("lines that are no results do not count",
     [program("1..1\n# okay\nthis is ok\nok 1 - a\nokra - b\n")], 0, "1 0 0"),
]


def adds_failures_to_the_file():
    """Only what failed, behind what earlier jobs left there."""
    text = "1..3\nok 1 - a\nnot ok 2 - b\n# because\nok 3 - c # SKIP no ring\n"
    with tempfile.TemporaryDirectory() as folder:
        log, kept = pathlib.Path(folder, "log"), pathlib.Path(folder, "kept")
        log.write_text(json.dumps(program(text, "FAIL", 1)), encoding="utf-8")
        kept.write_text("before\n", encoding="utf-8")
        subprocess.run([sys.executable, TALLY, log, "1", kept], timeout=20, check=True,
                       capture_output=True)
        return kept.read_text(encoding="utf-8")


def main():
    failures = 0
    for number, (name, entries, expected, want) in enumerate(CASES, 1):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as log:
            log.write("\n".join(e if isinstance(e, str) else json.dumps(e) for e in entries))
            log.flush()
            run = subprocess.run([sys.executable, TALLY, log.name, str(expected)], text=True,
                                 capture_output=True, timeout=20, check=False)
        good = run.returncode == 0 and run.stdout.strip() == want
        failures += not good
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print(f"# want {want!r}, got {run.stdout.strip()!r} {run.stderr}")
    kept = adds_failures_to_the_file()
    good = kept == "before\nweir: FAILED: p: b\nweir:     because\n"
    failures += not good
    print(f"{'ok' if good else 'not ok'} {len(CASES) + 1} - failures are kept for the end")
    if not good:
        print(f"# got {kept!r}")
    print(f"1..{len(CASES) + 1}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
