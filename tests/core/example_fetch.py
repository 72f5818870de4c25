#!/usr/bin/env python3
"""Runs the fetch example against servers of this script's own, on loopback alone. TAP.

Usage: example_fetch.py PROGRAM RESOLVER ENGINE...     RESOLVER: c-ares, or getaddrinfo
"""
import contextlib
import socket
import subprocess
import sys
import threading

LIMIT_S = 40
BODY = bytes(i * 7 % 251 for i in range(300000))


def fetch(program, *arguments):
    """Exit status, body, and the lines of stderr."""
    done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=LIMIT_S, check=False)
    return done.returncode, done.stdout, done.stderr.decode().splitlines()


@contextlib.contextmanager
def server(serve, kind=socket.SOCK_STREAM):
    """Calls serve(socket) in a thread, over and over; gives the port."""
    with socket.socket(socket.AF_INET, kind) as bound:
        bound.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            bound.listen()
        bound.settimeout(0.05)
        ending = threading.Event()

        def run():
            while not ending.is_set():
                with contextlib.suppress(socket.timeout):
                    serve(bound)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield bound.getsockname()[1]
        finally:
            ending.set()
            thread.join()


def answer_http(listening):
    peer, _ = listening.accept()
    with peer:
        peer.settimeout(LIMIT_S)
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += peer.recv(4096)
        lines = request.decode().split("\r\n")
        found = lines[0] == "GET /some/thing?a=b HTTP/1.0" and "Connection: close" in lines
        peer.sendall(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n" + BODY if found else
                     b"HTTP/1.1 404 Not Found\r\n\r\n" + lines[0].encode())


def answer_nonsense(listening):
    peer, _ = listening.accept()
    with peer:
        peer.settimeout(LIMIT_S)
        peer.recv(4096)
        peer.sendall(b"220 this is another protocol\r\n")


def never_answer(listening):
    peer, _ = listening.accept()
    with peer:
        peer.settimeout(LIMIT_S)
        while peer.recv(4096):
            pass


def answer_dns(bound):
    """example.test is ::1 and 127.0.0.1; there is no other name."""
    query, peer = bound.recvfrom(512)
    end = query.index(b"\0", 12) + 5
    name, kind = query[12:end - 5], query[end - 3]
    known = name == b"\7example\4test"
    address = {1: b"\x7f\0\0\1", 28: bytes(15) + b"\1"}.get(kind, b"") if known else b""
    record = b"\xc0\x0c\0" + bytes([kind]) + b"\0\1\0\0\0\x3c\0" + bytes([len(address)]) + address
    bound.sendto(query[:2] + b"\x85" + (b"\x80" if known else b"\x83") + b"\0\1\0" +
                 (b"\1" if address else b"\0") + bytes(4) + query[12:end] +
                 (record if address else b""), peer)


def refused_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


def expect(got, status, body, text):
    assert got[0] == status, "exit %d, not %d: %s" % (got[0], status, got[2])
    assert got[1] == body, "%d bytes of body, not %d" % (len(got[1]), len(body))
    assert any(text in line for line in got[2]), "stderr: %s" % got[2]


def try_engine(program, engine):
    options = ["30", engine]
    with server(answer_http) as port:
        expect(fetch(program, "http://127.0.0.1:%d/some/thing?a=b" % port, *options), 0, BODY,
               "HTTP/1.1 200 OK")
        expect(fetch(program, "http://127.0.0.1:%d" % port, *options), 1, b"GET / HTTP/1.0",
               "HTTP/1.1 404 Not Found")
    with server(answer_nonsense) as port:
        expect(fetch(program, "http://127.0.0.1:%d/" % port, *options), 1, b"", "not HTTP")
    with server(never_answer) as port:
        expect(fetch(program, "http://127.0.0.1:%d/" % port, "0.05", engine), 1, b"",
               "no answer in time")
    expect(fetch(program, "http://127.0.0.1:%d/" % refused_port(), *options), 1, b"",
           "Connection refused")


def try_names(program, engine):
    with server(answer_dns, socket.SOCK_DGRAM) as dns, server(answer_http) as port:
        options = ["30", engine, "127.0.0.1:%d" % dns]
        expect(fetch(program, "http://example.test:%d/some/thing?a=b" % port, *options), 0, BODY,
               "HTTP/1.1 200 OK")
        expect(fetch(program, "http://nowhere.test:%d/" % port, *options), 1, b"",
               "nowhere.test: no such name")


def try_usage(program):
    for wrong in ("", "https://a/", "http://", "http://a:b/", "http://a:70000/", "http://[::1"):
        assert fetch(program, wrong)[0] == 2, wrong


def main():
    program, resolver, engines = sys.argv[1], sys.argv[2], sys.argv[3:]
    tests = [("bad usage is told", try_usage, [])]
    for engine in engines:
        tests.append(("a page, no page, no HTTP, no answer, nobody: on " + engine, try_engine,
                      [engine]))
        if resolver == "c-ares":
            tests.append(("by its name: on " + engine, try_names, [engine]))
    failed = 0
    print("1..%d" % len(tests))
    for number, (name, test, arguments) in enumerate(tests, 1):
        try:
            test(program, *arguments)
            print("ok %d - fetch: %s" % (number, name))
        except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
            failed += 1
            print("not ok %d - fetch: %s\n# %s" % (number, name, error))
    return 1 if failed else 0


sys.exit(main())
