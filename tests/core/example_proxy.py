#!/usr/bin/env python3
"""Runs the proxy example on every engine named, before a server that speaks first and answers once
the client has ended its half: so both directions and both ends are carried over. TAP."""
import signal
import socket
import subprocess
import sys
import threading

LIMIT_S = 40
SENT = bytes(i * 7 % 251 for i in range(3000000))


def read_all(peer):
    parts = []
    while True:
        part = peer.recv(65536)
        if not part:
            return b"".join(parts)
        parts.append(part)


def answer(listener):
    peer = listener.accept()[0]
    with peer:
        peer.settimeout(LIMIT_S)
        peer.sendall(b"hello")
        got = read_all(peer)
        peer.sendall(got[::-1])


def talk(port):
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S) as peer:
        assert peer.recv(5, socket.MSG_WAITALL) == b"hello", "the server's first word"
        peer.sendall(SENT)
        peer.shutdown(socket.SHUT_WR)
        assert read_all(peer) == SENT[::-1], "other bytes came back"


def serve(program, engine):
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(LIMIT_S)
    spec = engine + ":per=connection"
    proxy = subprocess.Popen([program, str(listener.getsockname()[1]), "0", spec],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = proxy.stdout.readline()
        if not line:
            reason = proxy.communicate(timeout=LIMIT_S)[1].strip()
            return "skip" if engine == "uring" and proxy.returncode == 1 else "not ok", reason
        port = int(line.split()[2].rsplit(":", 1)[1])
        server = threading.Thread(target=answer, args=(listener,), daemon=True)
        server.start()
        talk(port)
        server.join(LIMIT_S)
        proxy.send_signal(signal.SIGTERM)
        assert proxy.wait(timeout=LIMIT_S) == 0, "exit %d" % proxy.returncode
        return "ok", ""
    except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        return "not ok", str(error)
    finally:
        proxy.kill()
        proxy.wait()
        proxy.stdout.close()
        proxy.stderr.close()
        listener.close()


def main():
    program, engines = sys.argv[1], sys.argv[2:]
    failed = 0
    print("1..%d" % len(engines))
    for number, engine in enumerate(engines, 1):
        verdict, reason = serve(program, engine)
        failed += verdict == "not ok"
        text = "ok" if verdict == "skip" else verdict
        comment = " # SKIP " + reason if verdict == "skip" else ""
        print("%s %d - the proxy example on %s%s" % (text, number, engine, comment))
        if verdict == "not ok":
            print("# " + reason)
    return 1 if failed else 0


sys.exit(main())
