#!/usr/bin/env python3
"""Runs an echo example on every engine named: it echoes, and ends well on SIGTERM. TAP.

Usage: example_echo.py tcp|udp PROGRAM ENGINE...
"""
import signal
import socket
import subprocess
import sys

LIMIT_S = 40


def echo_by_tcp(server, address):
    with socket.create_connection(address, timeout=LIMIT_S) as peer:
        for size in (1, 100, 100000):
            sent = bytes(i * 7 % 251 for i in range(size))
            peer.sendall(sent)
            got = b""
            while len(got) < size:
                part = peer.recv(65536)
                assert part, "end of file after %d of %d bytes" % (len(got), size)
                got += part
            assert got == sent, "other bytes came back"
        server.send_signal(signal.SIGTERM)
        assert peer.recv(1) == b"", "bytes after the stop"


def echo_by_udp(server, address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(LIMIT_S)
        for size in (1, 0, 1400, 60000):
            sent = bytes(i * 7 % 251 for i in range(size))
            peer.sendto(sent, address)
            got, sender = peer.recvfrom(65536)
            assert got == sent, "other bytes came back"
            assert sender == address, "from %s" % (sender,)
    server.send_signal(signal.SIGTERM)


ECHOES = {"tcp": echo_by_tcp, "udp": echo_by_udp}


def serve(protocol, program, engine):
    server = subprocess.Popen([program, "0", engine], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        if not line:
            reason = server.communicate(timeout=LIMIT_S)[1].strip()
            if engine.startswith("uring") and server.returncode == 1:
                return "skip", reason
            return "not ok", reason
        name, _, address = line.split()
        assert engine == "auto" or engine.split(":")[0] == name, line
        host, port = address.rsplit(":", 1)
        ECHOES[protocol](server, (host, int(port)))
        assert server.wait(timeout=LIMIT_S) == 0, "exit %d" % server.returncode
        return "ok", ""
    except (AssertionError, OSError, ValueError, subprocess.TimeoutExpired) as error:
        return "not ok", str(error)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        server.stderr.close()


def main():
    protocol, program, engines = sys.argv[1], sys.argv[2], sys.argv[3:]
    failed = 0
    print("1..%d" % len(engines))
    for number, engine in enumerate(engines, 1):
        verdict, reason = serve(protocol, program, engine)
        failed += verdict == "not ok"
        text = "ok" if verdict == "skip" else verdict
        comment = " # SKIP " + reason if verdict == "skip" else ""
        print("%s %d - the %s echo example on %s%s" % (text, number, protocol, engine, comment))
        if verdict == "not ok":
            print("# " + reason)
    return 1 if failed else 0


sys.exit(main())
