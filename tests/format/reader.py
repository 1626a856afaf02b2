#!/usr/bin/python3
"""reader.py - a reader of stores, written from FORMAT.md and nothing else.

  reader.py STORE                    say what is in the store, as JSON
  reader.py STORE SNAPSHOT ORIGIN    the bytes of a snapshot, to standard output

Shares no code with cow-core: where the two disagree, one of them or the page is
wrong.  The methods are in the order of "How to read".  Exit status 4 and a
line on standard error: the store is damaged, or the snapshot has ended.

SPDX-License-Identifier: BSD-3-Clause
"""

import json
import os
import struct
import sys
import uuid

import xxhash

PAGE = 4096
ALIVE = 0
CHECKPOINT, CHECKPOINT_END, MUST_KNOW = 1, 2, 1
(EXCEPTIONS, ZEROES, SEGMENTS, FREED, SET, END, VOLUME, COUNTERS, NOTE,
 MOVED) = range(1, 11)


class Damaged(Exception):
    """The store is not what the format says, or of a newer version."""


def need(condition, text):
    if not condition:
        raise Damaged(text)


def xxh3(data, seed=0):
    return xxhash.xxh3_64_intdigest(data, seed)


class Record:
    def __init__(self, data, position):
        (self.sequence, self.attested, self.lap, self.length, self.used,
         self.flags) = struct.unpack_from("<QQQIII", data, 16)
        self.position = position
        self.data = data

    def entries(self):
        """(type, body) of each entry."""
        at, end = 64, 64 + self.used
        while at < end:
            need(end - at >= 8, "an entry's head is cut off")
            kind, flags, length = struct.unpack_from("<HHI", self.data, at)
            need(length >= 8 and length % 8 == 0 and length <= end - at,
                 "an entry's length is wrong")
            if kind in range(EXCEPTIONS, MOVED + 1):
                yield kind, self.data[at + 8:at + length]
            elif flags & MUST_KNOW:
                raise Damaged("an entry of a type that is not known: %d" % kind)
            at += length


def items(body, head, form):
    """The items of a body that has `count` in its head."""
    size = struct.calcsize(form)
    count, = struct.unpack_from("<I", body, head - 8)
    need(len(body) == head + count * size, "a count is wrong")
    return list(struct.iter_unpack(form, body[head:]))


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.file = open(os.path.join(directory, "cowset.store"), "rb")
        self.volumes = {}         # number -> name and what else is known
        self.sets = {}            # id -> set
        self.segments = {}        # number -> (generation, "header" or items)
        self.exceptions = {}      # (volume, block) -> {epoch: where}
        self.zeroes = []
        for step in (self.read_superblock, self.choose_lap, self.find_last,
                     self.look_beyond, self.drop_torn, self.read_clean_mark,
                     self.apply, self.read_headers, self.invalidate):
            step()

    def pread(self, offset, length):
        """What is beyond the end of the file is zero."""
        self.file.seek(offset)
        data = self.file.read(length)
        return data + bytes(length - len(data))

    def seed(self, place, generation):
        return xxh3(self.id + struct.pack("<QQ", place, generation))

    def read_superblock(self):
        for offset in 0, PAGE:
            data = self.pread(offset, PAGE)
            if (data[:8] == b"COWSET\r\n"
                    and data[8:16] == struct.pack("<Q", xxh3(data[16:]))):
                break
        else:
            raise Damaged("neither superblock is valid")
        (version, self.block_bytes, refuse, _, _, self.id, self.area_bytes,
         self.segment_bytes, self.capacity) = struct.unpack_from(
             "<IIQQQ16sQII", data, 16)
        if version != 1 or refuse != 0:
            raise Damaged("version %d, features %#x" % (version, refuse))
        self.segments_at = 65536 + 2 * self.area_bytes

    def area_of(self, lap):
        return 65536 + lap % 2 * self.area_bytes

    def record_at(self, area, position, lap=None, sequence=None):
        """The record there if its checksum matches for the lap that it claims,
        and lap and sequence are these."""
        data = self.areas[area]
        if data[position:position + 8] != b"COWJRNL\n":
            return None
        r = Record(data[position:position + PAGE], position)
        if (r.length == 0 or r.length % PAGE != 0
                or r.length > len(data) - position or r.used > r.length - 64
                or r.attested >= r.sequence):
            return None
        r.data = data[position:position + r.length]
        checksum, = struct.unpack_from("<Q", r.data, 8)
        place = self.area_of(area) + position
        if checksum != xxh3(r.data[16:], self.seed(place, r.lap)):
            return None
        if lap is not None and (r.lap, r.sequence) != (lap, sequence):
            return None
        return r

    def pages(self, area, position):
        """All records from there on whose checksum matches."""
        while position < self.area_bytes:
            r = self.record_at(area, position)
            if r:
                yield r
            position += r.length if r else PAGE

    def checkpoint_of(self, area):
        r = self.record_at(area, 0)
        records = []
        if r is None or r.lap % 2 != area:
            return None
        lap = r.lap
        while r and r.flags & CHECKPOINT:
            records.append(r)
            if r.flags & CHECKPOINT_END:
                return records
            r = self.record_at(area, r.position + r.length, lap,
                               r.sequence + 1)
        return None

    def choose_lap(self):
        self.areas = [self.pread(self.area_of(i), self.area_bytes)
                      for i in (0, 1)]
        complete = [c for c in map(self.checkpoint_of, (0, 1)) if c]
        need(complete, "no complete checkpoint")
        self.records = max(complete, key=lambda c: c[0].lap)
        self.lap = self.records[0].lap
        self.checkpoint_last = self.records[-1].sequence
        for area in 0, 1:
            for r in self.pages(area, 0):
                need(r.lap <= self.lap or r.flags & CHECKPOINT,
                     "the checkpoint of lap %d is lost" % r.lap)

    def end(self):
        return self.records[-1].position + self.records[-1].length

    def find_last(self):
        while True:
            r = self.record_at(self.lap % 2, self.end(), self.lap,
                               self.records[-1].sequence + 1)
            if r is None:
                return
            self.records.append(r)
            need(all(kind != MOVED for kind, _ in r.entries()),
                 "the checkpoint that MOVED names is lost")

    def look_beyond(self):
        beyond = [r for r in self.pages(self.lap % 2, self.end())
                  if r.lap == self.lap]
        self.attested = max([self.checkpoint_last]
                            + [r.attested for r in self.records + beyond])
        need(self.attested <= self.records[-1].sequence,
             "record %d is lost" % (self.records[-1].sequence + 1))

    def is_torn(self, record, freed):
        for kind, body in record.entries():
            if kind != EXCEPTIONS:
                continue
            segment, generation = struct.unpack_from("<II", body)
            if (segment, generation) in freed:
                continue
            for checksum, _, _, _, position in items(body, 16, "<QQIIH6x"):
                if self.block_at(segment, generation, position,
                                 checksum) is None:
                    return True
        return False

    def drop_torn(self):
        while True:
            tail = [r for r in self.records if r.sequence > self.attested]
            freed = {ref for r in tail for kind, body in r.entries()
                     if kind == FREED for ref in items(body, 8, "<II")}
            for r in tail:
                if self.is_torn(r, freed):
                    del self.records[self.records.index(r):]
                    break
            else:
                return

    def read_clean_mark(self):
        data = self.pread(8192, PAGE)
        self.clean = any(data)
        if not self.clean:
            return
        lap, sequence = struct.unpack_from("<QQ", data, 16)
        need(data[:8] == b"COWCLEAN" and data[8:16] == struct.pack(
            "<Q", xxh3(data[16:64], self.seed(8192, lap))),
             "the clean mark is neither valid nor zero")
        need((lap, sequence) == (self.lap, self.records[-1].sequence),
             "the clean mark is not of the last record")

    def apply(self):
        for r in self.records:
            for kind, body in r.entries():
                self.apply_entry(kind, body)

    def use(self, segment, generation, default):
        """What is known of this use of the segment."""
        known = self.segments.get(segment)
        if known is None or known[0] < generation:
            known = self.segments[segment] = (generation, default)
        need(known[0] == generation, "a generation that goes back")
        return known[1]

    def apply_entry(self, kind, body):
        if kind == EXCEPTIONS:
            segment, generation = struct.unpack_from("<II", body)
            known = self.use(segment, generation, [])
            if known != "header":
                known += items(body, 16, "<QQIIH6x")
        elif kind == ZEROES:
            self.zeroes += items(body, 8, "<QIII4x")
        elif kind == SEGMENTS:
            for segment, generation in items(body, 8, "<II"):
                self.use(segment, generation, "header")
                self.segments[segment] = (generation, "header")
        elif kind == FREED:
            for segment, generation in items(body, 8, "<II"):
                if self.segments.get(segment, (None,))[0] == generation:
                    del self.segments[segment]
        elif kind == SET:
            self.apply_set(body)
        elif kind == END:
            ends = dict(items(body, 8, "<16sI4x"))
            for m in self.members():
                m["end"] = ends.get(m["snapshot"], m["end"])
        elif kind == VOLUME:
            number, _, size = struct.unpack_from("<IIQ", body)
            length, = struct.unpack_from("<I", body, 52)
            self.volumes[number] = {
                "name": body[56:56 + length].decode(), "size": size}

    def apply_set(self, body):
        set_id, number, state, members, annotation, label = struct.unpack_from(
            "<16sQ28xIII64s", body)
        end = 128 + 40 * members
        need(len(body) == end + (annotation + 7) // 8 * 8, "a set's length")
        self.sets[set_id] = {
            "id": set_id, "number": number, "state": state,
            "label": label.rstrip(b"\0").decode(), "members": [
                {"snapshot": m[0], "volume": m[1], "epoch": m[2], "end": m[3]}
                for m in struct.iter_unpack("<16sIII4xQ", body[128:end])]}

    def read_headers(self):
        for segment, (generation, known) in self.segments.items():
            if known == "header":
                known = self.header_of(segment, generation)
            for checksum, block, epoch, volume, position in known:
                self.add(volume, block, epoch,
                         (segment, generation, position, checksum))
        for first, count, epoch, volume in self.zeroes:
            for block in range(first, first + count):
                self.add(volume, block, epoch, None)

    def add(self, volume, block, epoch, where):
        self.exceptions.setdefault((volume, block), {})[epoch] = where

    def header_of(self, segment, generation):
        data = self.pread(self.segments_at + segment * self.segment_bytes,
                          8192)
        number, said = struct.unpack_from("<QI", data, 32)
        need(data[:8] == b"COWSEG\r\n" and data[16:32] == self.id
             and (number, said) == (segment, generation)
             and data[8:16] == struct.pack("<Q", xxh3(
                 data[16:], self.seed((segment + 1) * 256, generation))),
             "the header of segment %d is damaged" % segment)
        records = []
        for position in range(self.capacity):
            checksum, block, epoch, volume, flags = struct.unpack_from(
                "<QQIII", data, 64 + 32 * position)
            if not flags & 1:
                records.append((checksum, block, epoch, volume, position))
        return records

    def invalidate(self):
        if not os.path.exists(os.path.join(self.directory, "LIVE")):
            self.end_all((), 3)
        for i in range(8):
            offset = 16384 + i * PAGE
            data = self.pread(offset, PAGE)
            if not any(data):
                continue
            lap, end, count = struct.unpack_from("<QII", data, 16)
            if (data[:8] != b"COWENDS\n" or count > 120
                    or data[8:16] != struct.pack("<Q", xxh3(
                        data[16:512], self.seed(offset, lap)))):
                self.end_all((), 3)
            elif lap >= self.lap:
                self.end_all(struct.unpack_from("<%dI" % count, data, 32), end)

    def members(self):
        return [m for s in self.sets.values() for m in s["members"]]

    def end_all(self, volumes, end):
        for m in self.members():
            if m["end"] == ALIVE and (not volumes or m["volume"] in volumes):
                m["end"] = end

    def block_at(self, segment, generation, position, checksum):
        data = self.pread(self.segments_at + segment * self.segment_bytes
                          + 8192 + position * self.block_bytes,
                          self.block_bytes)
        place = (segment + 1) * 256 + position
        return data if xxh3(data, self.seed(place, generation)) == checksum \
            else None

    def read_block(self, member, block, origin):
        versions = self.exceptions.get((member["volume"], block), {})
        epoch = min((e for e in versions if e >= member["epoch"]), default=None)
        if epoch is not None:
            if versions[epoch] is None:
                return bytes(self.block_bytes)
            data = self.block_at(*versions[epoch])
            need(data is not None, "block %d is damaged" % block)
            return data
        origin.seek(block * self.block_bytes)
        return origin.read(self.block_bytes)

    def read(self, snapshot, origin, out):
        m = [m for s in self.shown() for m in s["members"]
             if m["snapshot"] == snapshot]
        need(m and m[0]["end"] == ALIVE, "no such snapshot, or it has ended")
        size = self.volumes[m[0]["volume"]]["size"]
        for at in range(0, size, self.block_bytes):
            block = self.read_block(m[0], at // self.block_bytes, origin)
            out.write(block[:size - at])

    def shown(self):
        """The sets that are to be shown: committed, and not all deleted."""
        return sorted((s for s in self.sets.values() if s["state"] == 2
                       and any(m["end"] != 1 for m in s["members"])),
                      key=lambda s: s["number"])

    def summary(self):
        return {
            "id": str(uuid.UUID(bytes=self.id)), "clean": self.clean,
            "volumes": {v["name"]: v["size"] for v in self.volumes.values()},
            "sets": [{
                "id": str(uuid.UUID(bytes=s["id"])), "label": s["label"],
                "members": [{
                    "snapshot": str(uuid.UUID(bytes=m["snapshot"])),
                    "volume": self.volumes[m["volume"]]["name"],
                    "end": m["end"]} for m in s["members"]],
            } for s in self.shown()],
        }


def main(args):
    try:
        store = Store(args[0])
        if len(args) == 1:
            json.dump(store.summary(), sys.stdout, indent=1)
            print()
        else:
            with open(args[2], "rb") as origin:
                store.read(uuid.UUID(args[1]).bytes, origin,
                           sys.stdout.buffer)
    except Damaged as e:
        print("%s: %s" % (args[0], e), file=sys.stderr)
        return 4
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
