#!/usr/bin/python3
# fake-agent.py - a QEMU guest agent by a script.
#
#   fake-agent.py SOCKET LOG [BEHAVIOUR]...
#
# Listens as QEMU does: one connection at a time.  Commands are carried out one
# after another, and an answer that nobody is there to read is given to whoever
# comes next, as the agent's serial line does it.  What it did is in LOG, a
# word a line.  Behaviours:
#
#   stale        an answer of somebody before is waiting
#   none         freezes no file system
#   refuse       answers freeze with an error
#   thaws        thaws by itself as soon as it is frozen
#   silent       never answers freeze, but does it
#   slow=SEC     freezes only after that time
#   garbage      answers freeze with what is no JSON
#
# SPDX-License-Identifier: BSD-3-Clause

import json
import socket
import sys
import time

path, log = sys.argv[1:3]
how = dict((b.split("=") + ["1"])[:2] for b in sys.argv[3:])
frozen = False
pending = b'{"return": 77}\n' if "stale" in how else b""


def note(word):
    with open(log, "a") as out:
        out.write(word + "\n")


def fsfreeze():
    global frozen
    if "refuse" in how:
        return {"error": {"class": "GenericError", "desc": "not today"}}
    time.sleep(float(how.get("slow", 0)))
    frozen = "none" not in how
    note("freeze")
    if "thaws" in how:
        frozen = False
    if "silent" in how:
        return None
    return {"return": 2 if "none" not in how else 0}


def thaw():
    global frozen
    was, frozen = frozen, False
    note("thaw")
    return {"return": 2 if was else 0}


def answer(line):
    """The bytes that answer this line."""
    at = line.rfind(b"\xff")
    try:
        command = json.loads(line[at + 1:])
    except ValueError:
        return b'{"error": {"class": "GenericError", "desc": "no JSON"}}\n'
    name = command.get("execute")
    if name == "guest-sync-delimited":
        return b"\xff" + json.dumps(
            {"return": command["arguments"]["id"]}).encode() + b"\n"
    if name == "guest-fsfreeze-status":
        reply = {"return": "frozen" if frozen else "thawed"}
    elif name == "guest-fsfreeze-freeze":
        reply = fsfreeze()
        if "garbage" in how:
            return b"what?\n"
    elif name == "guest-fsfreeze-thaw":
        reply = thaw()
    else:
        reply = {"error": {"class": "CommandNotFound", "desc": str(name)}}
    return b"" if reply is None else json.dumps(reply).encode() + b"\n"


listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen(4)
note("listening")
while True:
    connection, _ = listener.accept()
    held = b""
    try:
        connection.sendall(pending)
        pending = b""
        while True:
            data = connection.recv(4096)
            if not data:
                break
            held += data
            while b"\n" in held:
                line, held = held.split(b"\n", 1)
                pending = answer(line)
                connection.sendall(pending)
                pending = b""
    except OSError:
        pass
    connection.close()
