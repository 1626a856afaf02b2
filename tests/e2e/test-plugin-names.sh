#!/usr/bin/env bash
# Names of volumes: given, taken from the file, and refused.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires nbdinfo jq

cd "$tmp"
mkdir sub
truncate -s 1M disk0.img disk1 archive.tar.gz 'with space.img' .hidden \
  a..b.img latest.raw sub/disk0.img 'pci-0000:00:1f.2-ata-1' \
  3f2504e0-4f89-41d3-9a0c-0305e82cc301.img
ln -s disk1 link

# names ARGUMENT...: the volumes' exports, in order, on one line.
names ()
{
  run_nbdkit -U - "$plugin" control=off "$@" --run \
    'nbdinfo --list --json "nbd+unix:///?socket=$unixsocket"' |
    jq -r '[.exports[]["export-name"]] | join(" ")'
}

is ()
{
  local want=$1 got
  shift
  got=$(names "$@")
  [ "$got" = "$want" ] || fail "$*: \"$got\", not \"$want\""
}

# refused PATTERN ARGUMENT...
refused ()
{
  local pattern=$1
  shift
  if run_nbdkit -U - "$plugin" "$@" --run 'exit 0' 2>err; then
    fail "started with: $*"
  fi
  grep -q -e "$pattern" err || { cat err >&2; fail "no \"$pattern\" for $*"; }
}

is "disk0 disk1 archive.tar" disk0.img volume=disk1 archive.tar.gz
is "x.y-z_1" x.y-z_1:disk0.img
is "link" link
# A prefix that does not fit is part of the path, and what follows the last
# point is the extension.
refused 'volume=pci-0000:00:1f.2-ata-1: .*No such file' pci-0000:00:1f.2-ata-1
refused 'character other than' ./pci-0000:00:1f.2-ata-1
is "ata" ata:./pci-0000:00:1f.2-ata-1
is "ata" ata:pci-0000:00:1f.2-ata-1

refused '"with space" has a character other than' 'with space.img'
refused 'volume=NAME:with space.img' 'with space.img'
is "ok" 'ok:with space.img'
refused '"" is empty' .hidden
refused '"a..b" has ".." in it' a..b.img
refused '"latest" is reserved' latest.raw
refused '"3f2504e0-.*" has the form of an id' \
        3f2504e0-4f89-41d3-9a0c-0305e82cc301.img
long=$(printf 'n%.0s' {1..64})
is "$long" "$long:disk0.img"
refused 'No such file' "n$long:disk0.img"

refused 'the name "disk0" is taken by .*/disk0.img' disk0.img sub/disk0.img
is "disk0 other" disk0.img other:sub/disk0.img
refused 'is the same disk as disk1:' disk1 link
refused 'is the same disk as disk0:' disk0.img again:disk0.img
