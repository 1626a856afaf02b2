#!/usr/bin/python3
"""demo.py - the parts of demo.sh that a shell cannot do well.

  tree DIR BYTES SOURCE...    fill DIR with real files: copies of what is found
                              under each SOURCE, BYTES in all at most
  proto DIR                   print the prototype file by which mkfs.xfs -p
                              makes a file system of DIR
  write URI IMG URI IMG       keep writing numbers to the blocks of /reserved
                              on both disks, until SIGTERM: number k to disk
                              k mod 2, each only when the last is acknowledged
  numbers IMG IMG             the highest number that each image has there
  sums FILE DIR               SHA-256 of all files under DIR, /reserved excepted
  xfs-files IMG DIR           copy all files out of an XFS image into DIR

No file system is mounted: the places of files come from debugfs and xfs_db.

SPDX-License-Identifier: BSD-3-Clause
"""

import hashlib
import os
import random
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time

BLOCK = 4096
MAGIC = b"demo of cowset\n\0"
# What a prototype file and debugfs can name without quoting.
PLAIN = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]*$")


def run(*args, text=None):
    return subprocess.run(args, input=text, check=True, text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL).stdout


def files_under(top):
    """Paths relative to top, in an order that does not change."""
    for where, dirs, names in os.walk(top):
        dirs.sort()
        for name in sorted(names):
            yield os.path.relpath(os.path.join(where, name), top)


def tree(to, limit, sources):
    count = size = 0
    limit = int(limit)
    for number, source in enumerate(sources):
        # Each source gets an equal share of what is left.
        share = size + (limit - size) // (len(sources) - number)
        for path in files_under(source):
            full = os.path.join(source, path)
            if not all(PLAIN.match(part) for part in path.split("/")):
                continue
            try:
                found = os.lstat(full)
            except FileNotFoundError:
                continue
            if not stat.S_ISREG(found.st_mode) or size + found.st_size > share:
                continue
            copy = os.path.join(to, os.path.basename(source), path)
            os.makedirs(os.path.dirname(copy), exist_ok=True)
            shutil.copyfile(full, copy)
            size += found.st_size
            count += 1
    print(f"{count:,} files, {size / 1e6:.1f} MB")


def proto(top):
    def directory(path, indent):
        for name in sorted(os.listdir(path)):
            full = os.path.join(path, name)
            if os.path.isdir(full):
                print(f"{indent}{name} d--755 0 0")
                directory(full, indent + " ")
                print(f"{indent}$")
            else:
                print(f"{indent}{name} ---644 0 0 {full}")
    print("/\n0 0\nd--755 0 0")
    directory(top, "")
    print("$")


class Xfs:
    """The places of files in an XFS image."""

    def __init__(self, image):
        self.image = image
        found = dict(re.findall(r"(\w+) = (\d+)", self.ask(
            "sb 0", "p agblocks blocksize")))
        self.ag_blocks = int(found["agblocks"])
        self.block = int(found["blocksize"])

    def ask(self, *commands):
        return run("xfs_db", "-r", self.image,
                   text="".join(c + "\n" for c in commands))

    def places(self, paths):
        """For each path: (size, [(offset in the file, in the image, bytes)])"""
        commands = []
        for path in paths:
            commands += [f"path /{path}", "p core.size", "bmap"]
        answer = re.sub(r"^(xfs_db> )+", "", self.ask(*commands), flags=re.M)
        files = []
        for line in answer.splitlines():
            found = re.match(r"core\.size = (\d+)", line)
            if found:
                files.append((int(found[1]), []))
            found = re.match(r"data offset (\d+) startblock \d+ "
                             r"\((\d+)/(\d+)\) count (\d+)", line)
            if found:
                offset, ag, start, count = map(int, found.groups())
                files[-1][1].append((offset * self.block,
                                     (ag * self.ag_blocks + start) * self.block,
                                     count * self.block))
        assert len(files) == len(paths)
        return files


def reserved_blocks(image):
    """Where in the image the blocks of /reserved are."""
    with open(image, "rb") as f:
        if f.read(4) == b"XFSB":
            (_, extents), = Xfs(image).places(["reserved"])
            return [at + i for _, at, length in extents
                    for i in range(0, length, BLOCK)]
    answer = run("debugfs", "-R", "blocks /reserved", image)
    size, = re.findall(r"Block size:\s+(\d+)", run("dumpe2fs", "-h", image))
    assert int(size) == BLOCK
    return [int(b) * BLOCK for b in answer.split()]


def write(uris_and_images):
    import nbd
    disks = []
    for uri, image in zip(uris_and_images[::2], uris_and_images[1::2]):
        h = nbd.NBD()
        h.connect_uri(uri)
        disks.append((h, reserved_blocks(image)))
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    k = 0
    started = time.monotonic()
    while not stop:
        h, blocks = disks[k % 2]
        h.pwrite((MAGIC + struct.pack("<Q", k)).ljust(BLOCK, b"."),
                 random.choice(blocks))
        if k == 0:
            print("writing", flush=True)
        k += 1
    taken = time.monotonic() - started
    print(f"{k:,} writes, {k / taken:,.0f} a second")
    for h, _ in disks:
        h.shutdown()


def numbers(images):
    for image in images:
        last = -1
        with open(image, "rb") as f:
            for at in reserved_blocks(image):
                f.seek(at)
                block = f.read(BLOCK)
                if block.startswith(MAGIC):
                    k, = struct.unpack_from("<Q", block, len(MAGIC))
                    last = max(last, k)
        print(last)


def sums(out, top):
    with open(out, "w") as f:
        for path in files_under(top):
            if path == "reserved":
                continue
            with open(os.path.join(top, path), "rb") as data:
                digest = hashlib.sha256(data.read()).hexdigest()
            f.write(f"{digest}  {path}\n")


def xfs_files(image, to):
    xfs = Xfs(image)
    paths = []

    def look(directory):
        # "ls": address, inode, kind, hash, length, name
        for line in xfs.ask(f"path /{directory}", "ls").splitlines():
            field = line.replace("xfs_db> ", "").split()
            if len(field) < 6 or field[5] in (".", ".."):
                continue
            path = f"{directory}/{field[5]}" if directory else field[5]
            if field[2] == "directory":
                look(path)
            else:
                paths.append(path)
    look("")
    with open(image, "rb") as f:
        for path, (size, extents) in zip(paths, xfs.places(paths)):
            full = os.path.join(to, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as out:
                for offset, at, length in extents:
                    f.seek(at)
                    out.seek(offset)
                    out.write(f.read(length))
                out.truncate(size)


def main():
    command, args = sys.argv[1], sys.argv[2:]
    if command == "tree":
        tree(args[0], args[1], args[2:])
    elif command == "proto":
        proto(args[0])
    elif command == "write":
        write(args)
    elif command == "numbers":
        numbers(args)
    elif command == "sums":
        sums(args[0], args[1])
    elif command == "xfs-files":
        xfs_files(args[0], args[1])
    else:
        sys.exit(f"demo.py: no command {command}")


if __name__ == "__main__":
    main()
