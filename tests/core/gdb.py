#!/usr/bin/env python3
"""Runs gdb with coro/gdb/weir-gdb.py on a live program, on a core file made by gdb, and on one made
by the kernel, and looks for the coroutines and their frames. TAP.

Usage: gdb.py SCRIPT PROGRAM [WHY_NOT]
"""
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

LIMIT_S = 120
COMMANDS = ["info coroutines", "coroutine 1 bt", "coroutine all bt", "coroutine 1",
            "frame function polls_here", "info locals", "coroutine off", "bt 1", "coroutine 9 bt"]


def start(program, *arguments, cwd):
    child = subprocess.Popen([program, *arguments], stdout=subprocess.PIPE, cwd=cwd,
                             preexec_fn=lambda: resource.setrlimit(
                                 resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2))
    if child.stdout.readline() != b"ready\n":
        end(child)
        raise OSError("%s did not start" % program)
    return child


def end(child):
    child.kill()
    child.wait()
    child.stdout.close()


def gdb(script, subject, commands):
    words = ["gdb", "-batch", "-nx", "-ex", "set width 0", "-ex", "set debuginfod enabled off",
             "-ex", "source " + script]
    for command in commands:
        words += ["-ex", "echo \\n>> %s\\n" % command, "-ex", command]
    return subprocess.run(words + subject, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", timeout=LIMIT_S).stdout


def after(text, command):
    return text.split(">> %s\n" % command, 1)[1].split("\n>> ", 1)[0]


def check(good, what, text):
    if not good:
        raise AssertionError(what + " in:\n" + text)


def frames(text):
    return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+)", text, re.MULTILINE)


def judge(text):
    listed = after(text, "info coroutines")
    for line in (r"polls \(.*gdb_target\.c:\d+\) suspended; waits for poll, fd \d+",
                 r"dives \(.*suspended; waits for poll, fd \d+",
                 r"sleeps \(.*suspended; waits for a time",
                 r"joins \(.*suspended; waits for a task to end"):
        check(len(re.findall(line, listed)) == 1, "not one " + line, text)
    check(len(re.findall(r"^ +\d+  ", listed, re.MULTILINE)) == 4, "four are alive", text)
    one = frames(after(text, "coroutine 1 bt"))
    check(one[0] == "weir__task_wait", "the innermost frame first", text)
    check(one[-4:] == ["polls_here", "polls", "task_main", "weir__coro_start"], "all frames", text)
    every = after(text, "coroutine all bt")
    check(frames(every)[:len(one)] == one, "the same among all", text)
    dive = frames(every.split("dives (", 1)[1].split("coroutine ", 1)[0])
    seen = [name for name in dive if name in ("polls_here", "weir_coro_call_deep", "dives")]
    check(seen == ["polls_here", "weir_coro_call_deep", "dives"], "both stacks", text)
    selected = after(text, "frame function polls_here")
    check("polls_here" in selected, "one that is selected has its frames", text)
    check("kept_in_frame = 4711" in after(text, "info locals"), "and their variables", text)
    check("polls" not in after(text, "bt 1"), "off is off", text)
    check("which coroutine? 1 to 4" in after(text, "coroutine 9 bt"), "no ninth", text)


def live(script, program, folder):
    child = start(program, cwd=folder)
    try:
        text = gdb(script, ["-p", str(child.pid)], COMMANDS)
        if "ptrace: Operation not permitted" in text:
            return "this process may not trace another"
        judge(text)
    finally:
        end(child)
    return None


def core_of_gdb(script, program, folder):
    child = start(program, "mprotect", cwd=folder)
    core = os.path.join(folder, "core-of-gdb")
    try:
        text = gdb(script, ["-p", str(child.pid)], ["generate-core-file " + core])
    finally:
        end(child)
    if not os.path.exists(core):
        return "gdb made no core file: " + text.strip().splitlines()[-1]
    judge(gdb(script, [program, core], COMMANDS))
    return None


def core_of_kernel(script, program, folder):
    with open("/proc/sys/kernel/core_pattern", encoding="utf-8") as pattern:
        if not re.fullmatch(r"core(\.%p)?", pattern.read().strip()):
            return "core files go elsewhere here (kernel.core_pattern)"
    child = start(program, cwd=folder)
    try:
        child.send_signal(signal.SIGABRT)
        child.wait(LIMIT_S)
    finally:
        end(child)
    cores = [name for name in os.listdir(folder) if re.fullmatch(r"core(\.\d+)?", name)]
    if not cores:
        return "the kernel made no core file"
    judge(gdb(script, [program, os.path.join(folder, cores[0])], COMMANDS))
    return None


def main(script, program, why_not=""):
    if not shutil.which("gdb"):
        why_not = "no gdb here"
    tests = [("a live program", live), ("a core file of gdb's", core_of_gdb),
             ("a core file of the kernel's", core_of_kernel)]
    failed = 0
    print("1..%d" % len(tests))
    for number, (name, test) in enumerate(tests, 1):
        with tempfile.TemporaryDirectory() as folder:
            try:
                skipped = why_not or test(script, program, folder)
                print("ok %d - gdb sees the coroutines of %s%s"
                      % (number, name, " # SKIP " + skipped if skipped else ""))
            except (AssertionError, OSError, IndexError, subprocess.TimeoutExpired) as error:
                failed += 1
                print("not ok %d - gdb sees the coroutines of %s" % (number, name))
                print("".join("# %s\n" % line for line in str(error).splitlines()), end="")
    return 1 if failed else 0


sys.exit(main(*sys.argv[1:]))
