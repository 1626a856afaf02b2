#!/usr/bin/env bash
# What a server with a store refuses to start with, and what it says; nothing
# is changed by that.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"
. "$tests_srcdir/e2e/store.sh"

requires jq nbdcopy cmp
requires_python nbd
requires_python xxhash

store=$tmp/store
mkdir "$store" "$tmp/other"
head -c 2M /dev/urandom >"$tmp/a.img"
head -c 2M /dev/urandom >"$tmp/b.img"

serve ()
{
  start_nbdkit "$tmp/a.img" "$tmp/b.img" store="$store" store-reserve=0
}

# refused TEXT ARGUMENT...: no start, the message has TEXT, and the store is as
# it was.
refused ()
{
  local text=$1
  shift
  [ ! -e "$store/cowset.store" ] || cp "$store/cowset.store" "$tmp/before"
  if run_nbdkit -U - "$plugin" store-reserve=0 "$@" --run 'exit 0' \
       2>"$tmp/err"
  then
    fail "it started: $*"
  fi
  grep -q -- "$text" "$tmp/err" || { cat "$tmp/err" >&2; fail "not: $text"; }
  [ ! -e "$tmp/before" ] || cmp "$tmp/before" "$store/cowset.store"
  rm -f "$tmp/before"
}

# Something else of that name is left alone.
echo 'a letter' >"$store/cowset.store"
refused 'there is not a store of cowset; nothing was changed' \
        "$tmp/a.img" store="$store"
[ "$(cat "$store/cowset.store")" = 'a letter' ] || fail "it was changed"
rm "$store/cowset.store"

serve
take one a b
overwrite a 1
# In use.
refused 'in use by another server\|another server has it open' \
        other:"$tmp/b.img" store="$store" &
wait $! || fail "the volume of a running server"
truncate -s 1M "$tmp/c.img"
refused 'another server has it open' "$tmp/c.img" store="$store"
stop_nbdkit

# Other volumes, or not all of them.
refused 'has snapshots of the volume b, which is not served: serve it too' \
        "$tmp/a.img" store="$store"
refused 'has snapshots of the volume a, which is not served: serve it too' \
        "$tmp/c.img" store="$store"
refused 'was made with block-size=4096' \
        "$tmp/a.img" "$tmp/b.img" store="$store" block-size=64K

# A newer format, and damage, each with a copy of the good one put back.
cp "$store/cowset.store" "$tmp/good"
# change OFFSET BYTES: in the store's file.
change ()
{
  cp "$tmp/good" "$store/cowset.store"
  # shellcheck disable=SC2059
  printf "$2" |
    dd of="$store/cowset.store" bs=1 seek="$1" conv=notrunc status=none
}
change_both ()
{
  change "$1" "$2"
  # shellcheck disable=SC2059
  printf "$2" | dd of="$store/cowset.store" bs=1 seek=$(($1 + 4096)) \
    conv=notrunc status=none
}
change_both 100 'x'
refused 'both superblocks are damaged; run cowset-check' \
        "$tmp/a.img" "$tmp/b.img" store="$store"

# newer OFFSET VALUE: a whole superblock, twice, with another value there.
newer ()
{
  cp "$tmp/good" "$store/cowset.store"
  "$python" - "$store/cowset.store" "$1" "$2" <<'EOF'
import sys
import xxhash

with open(sys.argv[1], "r+b") as f:
    page = bytearray(f.read(4096))
    at = int(sys.argv[2])
    page[at:at + 4] = int(sys.argv[3]).to_bytes(4, "little")
    page[8:16] = xxhash.xxh3_64_intdigest(bytes(page[16:])).to_bytes(8, "little")
    f.seek(0)
    f.write(page + page)
EOF
}
newer 16 2
refused 'is of a newer format (version 2' \
        "$tmp/a.img" "$tmp/b.img" store="$store"
newer 24 1
refused 'is of a newer format' "$tmp/a.img" "$tmp/b.img" store="$store"
cp "$tmp/good" "$store/cowset.store"

# QEMU has the store's file open: not ours now; and the other way round.
if command -v qemu-nbd >/dev/null && command -v qemu-io >/dev/null; then
  qemu-nbd -t -f raw -k "$tmp/qemu.sock" "$store/cowset.store" &
  qemu_pid=$!
  at_exit "end_process $qemu_pid"
  eventually test -S "$tmp/qemu.sock"
  refused 'QEMU or another tool has' "$tmp/a.img" "$tmp/b.img" store="$store"
  end_process "$qemu_pid"
  serve
  if qemu-io -f raw -c 'write 0 4k' "$store/cowset.store" >/dev/null 2>&1; then
    fail "QEMU writes to a store that is in use"
  fi
  stop_nbdkit
fi

# What an ordinary user's server may not write; root may write everything.
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  dir=$(mktemp -d "${TMPDIR:-/tmp}/cowset-user.XXXXXX")
  at_exit "rm -rf '$dir'"
  chmod 755 "$dir"
  cp "$plugin" "$dir/plugin.so"
  mkdir "$dir/readonly" "$dir/store"
  truncate -s 1M "$dir/c.img" "$dir/d.img"
  chown 65534 "$dir/store" "$dir/c.img"
  # refused_to_nobody TEXT ARGUMENT...
  refused_to_nobody ()
  {
    local text=$1
    shift
    if (
      unset LD_PRELOAD
      cd "$dir"
      sanitize_nbdkit
      exec setpriv --reuid 65534 --regid 65534 --clear-groups \
        nbdkit -U - "$dir/plugin.so" store-reserve=0 "$@" --run 'exit 0'
    ) 2>"$tmp/err"; then
      fail "nobody's server started: $*"
    fi
    grep -q -- "$text" "$tmp/err" || { cat "$tmp/err" >&2; fail "not: $text"; }
  }
  refused_to_nobody "$dir/readonly.*[Pp]ermission" \
                    "$dir/c.img" store="$dir/readonly"
  [ -z "$(ls -A "$dir/readonly")" ] || fail "something was made there"
  refused_to_nobody "$dir/d.img: can't be written" \
                    "$dir/d.img" store="$dir/store"
  # (Its file is there, empty: that is where the lock is.)
  [ ! -s "$dir/store/cowset.store" ] || fail "a store was made for no volume"
fi

# Without LIVE nothing of it is believed, loudly.
rm "$store/LIVE"
serve
[ "$(end_of one a)" = store-error ] || fail "a set without LIVE is believed"
grep -q 'LIVE is missing' "$nbdkit_log" || fail "nothing is said of LIVE"
"$cowset" -c "$uri" delete one >/dev/null
take two a
overwrite a 2
right two a
stop_nbdkit
serve
right two a
stop_nbdkit
