#!/usr/bin/env python3
"""Runs the chat example on every engine named: what one says all get, in order, also beside a
member that never reads and one that leaves; it ends well on SIGTERM. TAP."""
import signal
import socket
import subprocess
import sys

LIMIT_S = 40
ROUNDS = 50


def join(address):
    host, port = address.rsplit(":", 1)
    peer = socket.create_connection((host, int(port)), timeout=LIMIT_S)
    lines = peer.makefile("rb")
    # It is in the room when it hears itself; others may be heard meanwhile.
    peer.sendall(b"hello\n")
    while lines.readline() != b"hello\n":
        pass
    return peer, lines


def talk(address):
    members = [join(address) for _ in range(4)]
    gone = members.pop()
    for index, (_, lines) in enumerate(members):
        for _ in members[index + 1:] + [gone]:
            assert lines.readline() == b"hello\n"
    silent = members.pop()  # reads no more
    for number in range(ROUNDS):
        said = b"line %d\n" % number
        if number == ROUNDS // 2:
            gone[1].close()
            gone[0].close()
        members[number % 2][0].sendall(said)
        for _, lines in members:
            assert lines.readline() == said, "another line"
    members[0][0].sendall(b"x" * 500 + b"\n")
    got = b"".join(members[1][1].readline(200) for _ in range(3))
    assert got == b"x" * 500 + b"\n", got
    return members + [silent]


def serve(program, engine):
    server = subprocess.Popen([program, "0", engine], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            reason = server.communicate(timeout=LIMIT_S)[1].strip()
            if engine == "uring" and server.returncode == 1:
                return "skip", reason
            return "not ok", reason
        name, _, address = line.split()
        assert engine.split(":")[0] in (name, "auto"), line
        members = talk(address)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=LIMIT_S) == 0, "exit %d" % server.returncode
        for peer, lines in members:
            lines.close()
            peer.close()
        return "ok", name
    except (AssertionError, OSError) as problem:
        return "not ok", str(problem) or repr(problem)
    finally:
        server.kill()
        server.wait()


def main(program, engines):
    print("1..%d" % len(engines))
    failed = False
    for number, engine in enumerate(engines, 1):
        result, reason = serve(program, engine)
        failed |= result == "not ok"
        if result == "skip":
            print("ok %d - chat on %s # SKIP %s" % (number, engine, reason))
        else:
            print("%s %d - chat on %s" % (result, number, engine))
            print("# %s" % reason)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
