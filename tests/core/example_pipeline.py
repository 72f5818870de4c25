#!/usr/bin/env python3
"""Runs the pipeline example on every engine named: what comes out, and how each part ended. TAP."""
import subprocess
import sys

LIMIT_S = 40


def run(program, engine):
    done = subprocess.run([program, "-e", engine, "cat", "|", "sort", "-r", "|", "sh", "-c",
                           "cat; kill -TERM $$"], input="a\nc\nb\n", text=True,
                          capture_output=True, timeout=LIMIT_S, check=False)
    if engine == "uring" and done.returncode == 1 and done.stderr.startswith("pipeline: io_uring"):
        return "skip", done.stderr.strip()
    if done.stdout != "c\nb\na\n":
        return "not ok", "stdout: %r, stderr: %r" % (done.stdout, done.stderr)
    if done.stderr != "1: exit 0\n2: exit 0\n3: signal 15\n" or done.returncode != 0:
        return "not ok", "exit %d, stderr: %r" % (done.returncode, done.stderr)
    return "ok", ""


def main():
    program, engines = sys.argv[1], sys.argv[2:]
    failed = 0
    print("1..%d" % len(engines))
    for number, engine in enumerate(engines, 1):
        try:
            verdict, reason = run(program, engine)
        except subprocess.TimeoutExpired as error:
            verdict, reason = "not ok", str(error)
        failed += verdict == "not ok"
        text = "ok" if verdict == "skip" else verdict
        comment = " # SKIP " + reason if verdict == "skip" else ""
        print("%s %d - the pipeline example on %s%s" % (text, number, engine, comment))
        if verdict == "not ok":
            print("# " + reason)
    return 1 if failed else 0


sys.exit(main())
