#!/usr/bin/python3
"""compare.py DIR - what reader.py finds in DIR/store against what is true.

DIR is as make-store.c leaves it.  Prints what it compared; exit status 1 and
the first difference otherwise.

SPDX-License-Identifier: BSD-3-Clause
"""

import io
import os
import sys
import uuid

import reader


def listed(path):
    sets = []
    with open(path) as lines:
        for words in (line.rstrip("\n").split(" ") for line in lines):
            if words[0] == "set":
                sets.append({"id": words[1], "label": words[2], "members": []})
            else:
                sets[-1]["members"].append({
                    "snapshot": words[1], "volume": words[2],
                    "end": int(words[3])})
    return sets


def main(directory):
    store = reader.Store(os.path.join(directory, "store"))
    found, told = store.summary()["sets"], listed(
        os.path.join(directory, "sets"))
    if found != told:
        sys.exit("the reader finds\n%s\nthe engine says\n%s" % (found, told))
    compared = 0
    for member in (m for s in found for m in s["members"] if m["end"] == 0):
        out = io.BytesIO()
        with open(os.path.join(directory, member["volume"] + ".img"),
                  "rb") as origin:
            store.read(uuid.UUID(member["snapshot"]).bytes, origin, out)
        with open(os.path.join(directory, "truth", member["snapshot"]),
                  "rb") as truth:
            if out.getvalue() != truth.read():
                sys.exit("snapshot %s differs" % member["snapshot"])
        compared += 1
    print("%d sets, %d snapshots, %d exceptions, %s" % (
        len(found), compared, len(store.exceptions),
        "closed in order" if store.clean else "not closed in order"))


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except reader.Damaged as e:
        sys.exit("reader.py: %s" % e)
