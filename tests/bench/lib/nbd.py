# nbd - as much of an NBD client as the control channel needs.
# SPDX-License-Identifier: BSD-3-Clause

import os
import socket
import struct

_IHAVEOPT = 0x49484156454f5054
_OPT_GO = 7
_REP_MAGIC = 0x3e889045565a9
_REP_ACK = 1
_REQUEST = 0x25609513
_REPLY = 0x67446698
_READ, _WRITE, _DISC = 0, 1, 2


class NBD:
    """A connection to one export over a Unix socket.  One request at a time."""

    def __init__(self, path, export):
        self.cookie = 0
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path)
        magic, opt, flags = struct.unpack('>8sQH', self._take(18))
        if magic != b'NBDMAGIC' or opt != _IHAVEOPT or not flags & 1:
            raise OSError(f'{path}: no newstyle NBD server')
        name = export.encode()
        data = struct.pack(f'>I{len(name)}sH', len(name), name, 0)
        self.sock.sendall(struct.pack('>I', 3) +
                          struct.pack('>QII', _IHAVEOPT, _OPT_GO, len(data)) +
                          data)
        while True:
            magic, _, kind, size = struct.unpack('>QIII', self._take(20))
            body = self._take(size)
            if magic != _REP_MAGIC:
                raise OSError(f'{path}: {export}: bad answer to NBD_OPT_GO')
            if kind == _REP_ACK:
                return
            if kind & 1 << 31:
                raise OSError(f'{path}: {export}: refused: '
                              f'{body.decode(errors="replace")}')

    def _take(self, size):
        parts = bytearray()
        while len(parts) < size:
            part = self.sock.recv(size - len(parts))
            if not part:
                raise OSError('the server has closed the connection')
            parts += part
        return bytes(parts)

    def _request(self, kind, offset, size, data=b''):
        self.cookie += 1
        self.sock.sendall(struct.pack('>IHHQQI', _REQUEST, 0, kind,
                                      self.cookie, offset, size) + data)
        if kind == _DISC:
            return b''
        magic, error, cookie = struct.unpack('>IIQ', self._take(16))
        if magic != _REPLY or cookie != self.cookie:
            raise OSError('bad NBD reply')
        if error:
            raise OSError(error, os.strerror(error))
        return self._take(size) if kind == _READ else b''

    def pread(self, size, offset):
        return self._request(_READ, offset, size)

    def pwrite(self, data, offset):
        self._request(_WRITE, offset, len(data), data)

    def close(self):
        try:
            self._request(_DISC, 0, 0)
        except OSError:
            pass
        self.sock.close()
