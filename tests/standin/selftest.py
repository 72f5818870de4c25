#!/usr/bin/env python3
"""What the stand-in for Criterion says of tests that pass, fail, skip, crash and hang. Prints TAP.

Usage: selftest.py SELFTEST_PROGRAM
"""

import re
import subprocess
import sys

WANTED = [
    "ok suite::a_passes",
    "not ok suite::b_assertion_fails",
    "not ok suite::c_expectation_fails",
    "ok suite::d_skips # SKIP no moon here",
    "not ok suite::e_crashes",
    "ok suite::f_dies_as_it_is_to",
    "not ok suite::g_was_to_die",
    "not ok suite::h_hangs",
    "ok suite::i_exits_with_3_in_fini",
    "not ok suite::j_new_assertion_fails",
    "ok suite::l_parameters [0]",
    "not ok suite::l_parameters [1]",
    "ok suite::l_parameters [2]",
]


def main(program):
    done = subprocess.run([program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=60, check=False)
    lines = [line for line in done.stdout.splitlines() if re.match(r"(not )?ok ", line)]
    said = [re.sub(r"ok \d+ - (.*?)  \(\d+\.\d+s\)", r"ok \1", line) for line in lines]
    checks = [
        ("every test is told as it ended", said == WANTED, said),
        ("the plan is the number of tests", f"1..{len(WANTED)}" in done.stdout.splitlines(),
         done.stdout),
        ("the run failed", done.returncode == 1, done.returncode),
        ("a failed assertion names its place and message",
         re.search(r"selftest\.c:\d+: prepared == 8: it is 7", done.stderr), done.stderr),
    ]
    for number, (name, good, got) in enumerate(checks, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {name}")
        if not good:
            print(f"# got {got!r}")
    print(f"1..{len(checks)}")
    return 0 if all(good for _, good, _ in checks) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
