# control - a requester over the control channel (protocol/PROTOCOL.md).
#
# A session of its own and not the command, so that a set's steps can be timed
# one by one, without the start of a program in each figure.
#
# SPDX-License-Identifier: BSD-3-Clause

import ctypes
import json
import os
import struct
import time
import uuid

from .nbd import NBD

_SLOT = 1 << 20
_SEED = 0x636f77736574
_HEADER = '<8sIIQ16sIIIIQ'
_BACKUP = 0            # VSS_CTX_BACKUP: goes with its session
_APP_ROLLBACK = 9      # VSS_CTX_APP_ROLLBACK: stays

_xxhash = ctypes.CDLL('libxxhash.so.0')
_xxhash.XXH3_64bits_withSeed.restype = ctypes.c_uint64
_xxhash.XXH3_64bits_withSeed.argtypes = (ctypes.c_char_p, ctypes.c_size_t,
                                         ctypes.c_uint64)


def _checksum(data):
    return _xxhash.XXH3_64bits_withSeed(data, len(data), _SEED)


class ControlError(RuntimeError):
    pass


class Control:
    """A session; its sets go when it is closed."""

    def __init__(self, path):
        self.nbd = NBD(path, '@control')
        self.id = 0
        self.hello = self.call('hello', client='cowset bench')

    def call(self, op, **members):
        body = json.dumps({'op': op, **members}).encode()
        nonce = os.urandom(16)
        self.id += 1
        # Slot 1: slot 0 is for pings and cancels.
        self.nbd.pwrite(self._frame(1, nonce, body, 0, len(body)), _SLOT)
        head, answer = self._answer(nonce, 1 << 16)
        while len(answer) < head[6]:
            self.nbd.pwrite(self._frame(4, nonce, b'', len(answer), 0), _SLOT)
            answer += self._answer(nonce, _SLOT)[1]
        answer = json.loads(answer)
        if answer['hr'] < 0:
            raise ControlError(f"{op}: {answer['code']}: "
                               f"{answer.get('message', '')}")
        return answer.get('result', {})

    def _frame(self, kind, nonce, body, part, total):
        head = struct.pack(_HEADER, b'COWSET\r\n', 1, kind, self.id, nonce,
                           len(body), total, part, 0, 0)[:56]
        return head + struct.pack('<Q', _checksum(head + body)) + body

    def _answer(self, nonce, size):
        data = self.nbd.pread(size, _SLOT)
        head = struct.unpack(_HEADER, data[:64])
        length = head[5]
        if head[2] != 2 or head[3] != self.id or head[4] != nonce:
            raise ControlError('not the answer to this request')
        if 64 + length > size:
            data += self.nbd.pread(64 + length - size, _SLOT + size)
        body = data[64:64 + length]
        if _checksum(data[:56] + body) != head[9]:
            raise ControlError('an answer with a bad checksum')
        return head, body

    def create(self, volumes, label=None, persistent=False):
        """A set of these volumes.  Answers its id and the seconds of each
        step.  A persistent one needs a store with a name."""
        set_id = str(uuid.uuid4())
        times = {}

        def step(op, **members):
            started = time.perf_counter()
            answer = self.call('set.' + op, set=set_id, **members)
            times[op] = times.get(op, 0) + time.perf_counter() - started
            return answer

        more = {'label': label} if label else {}
        step('start', context=_APP_ROLLBACK if persistent else _BACKUP,
             auto_release=not persistent, **more)
        for v in volumes:
            step('add', volume=v, snapshot=str(uuid.uuid4()))
        step('prepare')
        step('commit')
        step('settle')
        step('finish')
        return set_id, times

    def delete(self, set_id):
        self.call('delete', type='set', id=set_id, force=True)

    def query(self, set_id=None):
        members = {'set': set_id} if set_id else {}
        return self.call('query', context=-1, **members)['sets']

    def status(self):
        return self.call('status')

    def close(self):
        self.nbd.close()
