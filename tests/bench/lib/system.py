# system - what the kernel has counted.
# SPDX-License-Identifier: BSD-3-Clause

import os
import platform
import subprocess

_TICKS = os.sysconf('SC_CLK_TCK')


def loadavg():
    with open('/proc/loadavg') as f:
        return [float(x) for x in f.read().split()[:3]]


def process_io(pid):
    with open(f'/proc/{pid}/io') as f:
        return {k: int(v) for k, v in (line.split(':') for line in f)}


def process_cpu(pid):
    """Seconds of processor time, all threads."""
    with open(f'/proc/{pid}/stat') as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return {'user': int(fields[11]) / _TICKS,
            'system': int(fields[12]) / _TICKS}


def process_memory(pid):
    """Bytes, by the names of /proc/PID/status."""
    out = {}
    with open(f'/proc/{pid}/status') as f:
        for line in f:
            key, value = line.split(':', 1)
            if key in ('VmRSS', 'VmHWM', 'VmSize', 'RssAnon', 'RssFile',
                       'RssShmem', 'VmLck', 'VmPin'):
                out[key] = int(value.split()[0]) * 1024
    return out


def busy():
    """Seconds for which processors were not idle, all of them together."""
    with open('/proc/stat') as f:
        t = [int(x) for x in f.readline().split()[1:]]
    return (t[0] + t[1] + t[2] + t[5] + t[6]) / _TICKS


def device_of(path):
    """The /sys directory of the disk under a path, or None."""
    dev = os.stat(path).st_dev
    sys_path = f'/sys/dev/block/{os.major(dev)}:{os.minor(dev)}'
    if not os.path.exists(sys_path + '/stat'):
        return None
    return os.path.realpath(sys_path)


def device_io(device):
    if device is None:
        return None
    with open(device + '/stat') as f:
        s = [int(x) for x in f.read().split()]
    return {'reads': s[0], 'read_bytes': s[2] * 512,
            'writes': s[4], 'write_bytes': s[6] * 512}


def minus(after, before):
    if after is None or before is None:
        return None
    return {k: after[k] - before[k] for k in after}


def file_system(path):
    """Type of the file system that holds a path."""
    best, kind = '', '?'
    real = os.path.realpath(path)
    with open('/proc/mounts') as f:
        for line in f:
            where, what = line.split()[1:3]
            if ((real + '/').startswith(where.rstrip('/') + '/') and
                    len(where) >= len(best)):
                best, kind = where, what
    return kind


def commit(tree):
    """What git calls the sources that were built, or None."""
    try:
        r = subprocess.run(['git', '-C', tree, 'describe', '--always',
                            '--dirty', '--abbrev=12'], capture_output=True,
                           text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return r.stdout.strip()


def describe(directory, tree):
    model = '?'
    with open('/proc/cpuinfo') as f:
        for line in f:
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
                break
    with open('/proc/meminfo') as f:
        memory = int(f.readline().split()[1]) * 1024
    return {'kernel': platform.release(), 'cpus': os.cpu_count(),
            'model': model, 'memory': memory,
            'file_system': file_system(directory), 'commit': commit(tree)}
