# servers - cowset and its peers, each started anew for every run.
#
# SPDX-License-Identifier: BSD-3-Clause

import os
import shutil
import signal
import socket
import subprocess
import time

from .control import Control


class ServerError(RuntimeError):
    pass


class Server:
    """A process that serves NBD at self.socket, and the export to use."""

    def __init__(self, argv, sock, export='', env=None, log=None):
        self.argv, self.socket, self.export = argv, sock, export
        self.log = log
        out = open(log, 'wb') if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={**os.environ, **(env or {})})
        if log:
            out.close()
        self.pid = self.process.pid
        self.controls = []
        try:
            self._wait()
        except ServerError:
            self.stop()
            raise

    def _wait(self):
        end = time.monotonic() + 20
        while True:
            s = socket.socket(socket.AF_UNIX)
            try:
                # A server that lives for one connection must keep it: the
                # socket's file alone would say too little, as it is there
                # before anybody listens.
                s.connect(self.socket)
                return
            except OSError:
                if self.process.poll() is not None:
                    raise ServerError(self.end()) from None
                if time.monotonic() > end:
                    raise ServerError(f'{self.argv[0]}: no answer') from None
                time.sleep(0.005)
            finally:
                s.close()

    def end(self):
        """How it ended, and its last words; None while it runs."""
        status = self.process.poll()
        if status is None:
            return None
        words = ''
        if self.log:
            with open(self.log, errors='replace') as f:
                words = ' / '.join(f.read().splitlines()[-4:])
        return f'{self.argv[0]} ended with {status}: {words}'

    def uri(self, export=None):
        name = self.export if export is None else export
        return f'nbd+unix:///{name}?socket={self.socket}'

    def control(self):
        c = Control(self.socket)
        self.controls.append(c)
        return c

    def stop(self):
        for c in self.controls:
            c.close()
        self.controls = []
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if os.path.exists(self.socket):
            os.unlink(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()


class Servers:
    """Starts contestants by name.

    All nbdkit contestants have the same options; what differs is the plugin
    and its parameters.
    """

    def __init__(self, plugin, work, sockets, threads):
        self.plugin, self.work, self.sockets = plugin, work, sockets
        self.threads = threads
        self.count = 0

    def start(self, name, image, **options):
        return getattr(self, '_' + name.replace('-', '_'))(image, **options)

    def _socket(self):
        self.count += 1
        return os.path.join(self.sockets, f's{self.count}')

    def _nbdkit(self, sock, *args):
        return ['nbdkit', '-f', '-U', sock, '-t', str(self.threads), *args]

    def _start(self, argv, sock, export=''):
        # The store of cowset and the overlay of the cow filter are unnamed
        # files in $TMPDIR: beside the image, on the same disk.
        return Server(argv, sock, export, {'TMPDIR': self.work},
                      os.path.join(self.work, 'servers.log'))

    def _file(self, image):
        sock = self._socket()
        return self._start(self._nbdkit(sock, 'file', image), sock)

    def _file_cow(self, image):
        sock = self._socket()
        return self._start(self._nbdkit(sock, '--filter=cow', 'file', image),
                           sock)

    def _cowset(self, image, volumes=None, io='auto', cache='writeback',
                limit='16G', store=False, parameters=()):
        """VOLUMES is {name: path}; by itself, the image is "disk".  STORE: a
        store with a name, made anew."""
        sock = self._socket()
        volumes = volumes or {'disk': image}
        if store:
            path = os.path.join(self.work, 'store')
            shutil.rmtree(path, ignore_errors=True)
            os.mkdir(path)
            # It would be another store's origin, as far as its mark says.
            parameters = [f'store={path}', 'force-origin=true', *parameters]
        argv = self._nbdkit(sock, self.plugin, f'io={io}', f'cache={cache}',
                            f'store-limit={limit}', *parameters,
                            *(f'{n}:{p}' for n, p in volumes.items()))
        return self._start(argv, sock, next(iter(volumes)))

    def _qemu_nbd(self, image, cache='writeback', aio='threads'):
        sock = self._socket()
        return self._start(['qemu-nbd', '-f', 'raw', '-t', '-e', '16',
                            '-k', sock, f'--cache={cache}', f'--aio={aio}',
                            image], sock)

    def _qemu_cbw(self, image, direct=False, aio='threads'):
        """A copy-before-write filter over the image, with a raw target that
        is as long and empty."""
        sock = self._socket()
        target = os.path.join(self.work, 'cbw-target.img')
        with open(target, 'wb') as f:
            f.truncate(os.path.getsize(image))
        how = f'cache.direct={"on" if direct else "off"},aio={aio}'
        argv = ['qemu-storage-daemon',
                '--blockdev', f'file,node-name=o-file,filename={image},{how}',
                '--blockdev', 'raw,node-name=origin,file=o-file',
                '--blockdev', f'file,node-name=t-file,filename={target},{how}',
                '--blockdev', 'raw,node-name=target,file=t-file',
                '--blockdev', 'copy-before-write,node-name=cbw,file=origin,'
                              'target=target',
                '--nbd-server', f'addr.type=unix,addr.path={sock}',
                '--export', 'nbd,id=e,node-name=cbw,name=disk,writable=on']
        return self._start(argv, sock, 'disk')
