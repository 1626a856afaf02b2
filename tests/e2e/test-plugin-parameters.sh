#!/usr/bin/env bash
# Every parameter that is wrong is named in the message, and nothing starts.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

truncate -s 1M "$tmp/a.img" "$tmp/b.img"
mkdir "$tmp/dir.img"
mkfifo "$tmp/fifo.img"

# refused PATTERN ARGUMENT...: no start, and stderr has a line like PATTERN.
refused ()
{
  local pattern=$1
  shift
  if run_nbdkit -U - "$plugin" "$@" --run 'exit 0' >"$tmp/out" 2>"$tmp/err"
  then
    fail "started with: $*"
  fi
  grep -q -e "error: .*$pattern" "$tmp/err" || {
    cat "$tmp/err" >&2
    fail "for $*: no message like \"$pattern\""
  }
}

a=$tmp/a.img

refused 'no volume: give at least one'
refused "volume=$tmp/none.img: .*No such file" "$tmp/none.img"
refused "volume=$tmp/dir.img: .*is a directory" "$tmp/dir.img"
refused "volume=$tmp/fifo.img: .*neither a file nor a block device" \
        "$tmp/fifo.img"
refused 'volume=disk:: names no file' volume=disk:
refused "volume=disk:$tmp/none.img: .*No such file" "disk:$tmp/none.img"

refused 'unknown parameter colour=red' "$a" colour=red

refused 'cache=writethrough: must be writeback or none' "$a" cache=writethrough
refused 'io=aio: must be auto or uring or sync' "$a" io=aio
refused 'protect=all: must be origin or snapshot' "$a" protect=all
refused 'control=everybody: must be unix or tls or any or off' \
        "$a" control=everybody
refused 'block-size=5000: must be a power of 2 from 4K to 1M' \
        "$a" block-size=5000
refused 'block-size=2K: must be a power of 2 from 4K to 1M' "$a" block-size=2K
refused 'block-size=2M: must be a power of 2 from 4K to 1M' "$a" block-size=2M
refused 'block-size=big: is no size' "$a" block-size=big
refused 'store-limit=1: must be 1M or more' "$a" store-limit=1
refused 'store-limit=-1: is no size' "$a" store-limit=-1
refused 'store-reserve=much: is no size' "$a" store-reserve=much
refused 'store-timeout=0: must be a number of seconds from 0.1 to 3600' \
        "$a" store-timeout=0
refused 'hold-limit=11: must be a number of seconds from 0.001 to 10' \
        "$a" hold-limit=11
refused 'hold-limit=0: must be' "$a" hold-limit=0
refused 'hold-limit=1s: must be' "$a" hold-limit=1s
refused 'hold-limit=: must be' "$a" hold-limit=
refused 'hold-limit=99999999999999999999: must be' \
        "$a" hold-limit=99999999999999999999
refused 'flush-limit=x: must be' "$a" flush-limit=x
refused 'session-grace=-1: must be' "$a" session-grace=-1
refused 'snapshot-limit=0: must be from 1 to' "$a" snapshot-limit=0
refused 'snapshot-limit: ' "$a" snapshot-limit=many
refused 'control-sessions=0: must be from 1 to 1024' "$a" control-sessions=0

refused "store=$tmp/nowhere: No such file or directory; make the directory" \
        "$a" "store=$tmp/nowhere"
refused "store=$a: is not a directory" "$a" "store=$a"
mkdir "$tmp/store"
refused "store=$tmp: there is one store" "$a" "store=$tmp/store" "store=$tmp"
refused "state-dir=$a: is not a directory" "$a" "state-dir=$a"
refused 'force-origin=perhaps: must be true or false' \
        "$a" force-origin=perhaps

# What later versions bring is refused by its name, not passed over.
for p in clone-dir=$tmp control=tls
do
  refused "$p: not supported by this version" "$a" "$p"
done
refused 'control-secret=...: not supported by this version' \
        "$a" control-secret=hush
if grep -q hush "$tmp/err"; then fail "the secret is in the message"; fi

# All that there is, with values at the ends of their ranges.
run_nbdkit -U - "$plugin" one:"$a" volume=two:"$tmp/b.img" cache=writeback \
  block-size=1M store-limit=1M store-reserve=0 store-timeout=0.1 \
  protect=snapshot io=sync snapshot-limit=1 hold-limit=10 flush-limit=0.001 \
  control=any control-sessions=1 session-grace=0 store="$tmp/store" \
  state-dir="$tmp" force-origin=true --run 'exit 0'
