#!/usr/bin/env python3
"""Runs the copy example on every engine named: what it copies is the same, and what it cannot copy
it says. TAP."""
import os
import subprocess
import sys
import tempfile

LIMIT_S = 60
BLOCK = 256 * 1024


def run(program, engine, source, target):
    done = subprocess.run([program, source, target, engine], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
    return done.returncode, done.stdout.strip()


def write(path, content, mode=0o640):
    with open(path, "wb") as out:
        out.write(content)
    os.chmod(path, mode)


def copies(program, engine, folder):
    source, target = os.path.join(folder, "source"), os.path.join(folder, "target")
    write(target, b"longer than what comes" * 3)
    for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 20 * BLOCK + 12345):
        sent = os.urandom(size)
        write(source, sent)
        status, said = run(program, engine, source, target)
        assert (status, said) == (0, ""), "%d bytes: exit %d: %s" % (size, status, said)
        with open(target, "rb") as back:
            assert back.read() == sent, "of %d bytes something else arrived" % size
        if size == 0:
            os.unlink(target)  # the next one is made anew
        else:
            assert os.stat(target).st_mode & 0o777 == 0o640 & ~mask, "another mode"


def fails(program, engine, folder):
    source, none = os.path.join(folder, "source"), os.path.join(folder, "none")
    write(source, os.urandom(5 * BLOCK))
    for case in ((none, source, "open %s: No such file or directory" % none),
                 (source, "/dev/full", "write /dev/full: No space left on device"),
                 (source, folder, "open %s: Is a directory" % folder),
                 (folder, none, "read %s: Is a directory" % folder),
                 (source, source, "copy onto itself %s: Invalid argument" % source)):
        status, said = run(program, engine, case[0], case[1])
        assert (status, said) == (1, "copy: " + case[2]), "exit %d: %s" % (status, said)
    assert os.stat(source).st_size == 5 * BLOCK, "the source was touched"


def try_engine(program, engine):
    with tempfile.TemporaryDirectory(prefix="weir-copy-") as folder:
        source = os.path.join(folder, "source")
        write(source, b"")
        status, said = run(program, engine, source, os.path.join(folder, "target"))
        if engine.startswith("uring") and status == 2:
            return "skip", said
        try:
            copies(program, engine, folder)
            fails(program, engine, folder)
            return "ok", ""
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            return "not ok", str(error)


mask = os.umask(0o022)
os.umask(mask)


def main():
    program, engines = sys.argv[1], sys.argv[2:]
    failed = 0
    print("1..%d" % len(engines))
    for number, engine in enumerate(engines, 1):
        verdict, reason = try_engine(program, engine)
        failed += verdict == "not ok"
        text = "ok" if verdict == "skip" else verdict
        comment = " # SKIP " + reason if verdict == "skip" else ""
        print("%s %d - the copy example on %s%s" % (text, number, engine, comment))
        if verdict == "not ok":
            print("# " + reason)
    return 1 if failed else 0


sys.exit(main())
