#!/usr/bin/env bash
# demo.sh - the main job, on real file systems; "./dev demo" builds and runs it.
#
# Two disks with real files are served; while a writer keeps writing to both, a
# snapshot set of them is taken; then both disks are overwritten from end to
# end.  Every file that is read out of the snapshots has to have the checksum
# that its source has.  Nothing is mounted, and nothing here needs root.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

# Where Debian keeps what makes file systems; not in everybody's path.
PATH=$PATH:/usr/sbin:/sbin
requires nbdkit nbdcopy mke2fs debugfs e2fsck mkfs.xfs xfs_db xfs_repair
requires_python nbd

helper=$tests_srcdir/demo/demo.py
do_py () { "$python" -B "$helper" "$@"; }
# json EXPRESSION: of the JSON document j on standard input.
json () { "$python" -c "import json, sys; j = json.load (sys.stdin); print ($1)"; }

# TERM may be dumb or missing, and the output a file.
bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi
number=0
step () { number=$((number + 1)); printf '\n%s%d. %s%s\n' "$bold" $number "$*" "$plain"; }
say () { printf '   %s\n' "$*"; }
show () { printf '   $ %s\n' "$*"; }
mib () { echo $(($(stat -c %s "$1") >> 20)); }

data_mb=30
reserved_mb=16
SECONDS=0
cd "$tmp"

echo "${bold}cowset: one instant of two disks, taken while they are written to${plain}"

# ---------------------------------------------------------------- the disks
step "Two disks with real files"
sources=("$top_srcdir/cow-core" "$top_srcdir/nbdkit-plugin"
         "$top_srcdir/requester" "$top_srcdir/protocol")
for d in /usr/share/doc /usr/lib/python3 /usr/share/perl; do
  [ ! -d $d ] || sources+=($d)
done
mkdir source.alpha source.beta
files_alpha=$(do_py tree source.alpha ${data_mb}000000 "${sources[@]}")
sources=()
for d in /usr/include /usr/lib/python3.* /usr/lib/git-core /usr/share/zoneinfo; do
  [ ! -d "$d" ] || sources+=("$d")
done
files_beta=$(do_py tree source.beta ${data_mb}000000 "${sources[@]}")
for d in alpha beta; do
  do_py sums "$d.sums" "source.$d"
  [ -s "$d.sums" ] || fail "found no files to fill the disks with"
  # Not sparse: the writer needs blocks of its own.
  head -c ${reserved_mb}M /dev/urandom >"source.$d/reserved"
done

truncate -s 128M alpha.img
mke2fs -q -F -t ext4 -b 4096 -d source.alpha alpha.img
truncate -s 320M beta.img
do_py proto "$tmp/source.beta" >beta.proto
mkfs.xfs -q -b size=4096 -p beta.proto beta.img
say "alpha.img  $(mib alpha.img) MiB, ext4 made by mke2fs -d: $files_alpha"
say "beta.img   $(mib beta.img) MiB, XFS made by mkfs.xfs -p: $files_beta"
say "and on each a file /reserved of $reserved_mb MiB for the writer"

# ---------------------------------------------------------------- the server
step "nbdkit serves them, with the plugin"
show "nbdkit nbdkit-cowset-plugin.so alpha.img beta.img store-limit=1G"
start_nbdkit -o "-t 64" alpha.img beta.img store-limit=1G
export COWSET_URI=$uri

step "A writer rewrites /reserved on both disks"
"$python" -B "$helper" write "$(export_uri alpha)" alpha.img \
  "$(export_uri beta)" beta.img >writer.out &
writer=$!
at_exit "kill $writer 2>/dev/null"
writing () { is_zombie $writer && fail "the writer ended"; [ -s writer.out ]; }
eventually writing
sleep 2
say "Number k goes to disk k mod 2, once k - 1 is acknowledged; so it goes on."

# ------------------------------------------------------------------- the set
step "A snapshot set of both disks, while that goes on"
show "cowset create --label demo alpha beta"
"$cowset" create --label demo alpha beta >created 2>create.err &
create=$!
at_exit "kill -INT $create 2>/dev/null"
made ()
{
  if is_zombie $create; then cat create.err >&2; fail "cowset create"; fi
  [ "$(wc -l <created)" -ge 3 ]
}
eventually made
set=$(head -n 1 created)
snapshots=$(grep -o 'nbd.*' created)
while IFS= read -r line; do say "$line"; done <created
"$cowset" info --json "$set" >info.json
say "All disks were held for $(json "'%.3f ms' % (j['hold_ns'] / 1e6)" <info.json)."
sleep 1
kill $writer
wait $writer || fail "the writer failed"
say "The writer goes on, and is ended a second later: $(tail -n 1 writer.out)."

# ----------------------------------------------------------- the destruction
step "Both disks are overwritten from end to end, over NBD, with random bytes"
started=$EPOCHREALTIME
total=0
for d in alpha beta; do
  head -c "$(stat -c %s $d.img)" /dev/urandom >junk.$d
  total=$((total + $(mib $d.img)))
  nbdcopy --flush junk.$d "$(export_uri $d)"
done
took=$(((${EPOCHREALTIME/[.,]/} - ${started/[.,]/}) / 1000))
"$cowset" status --json >status.json
say "$total MiB in $((took / 1000)).$((took / 100 % 10)) s.  Kept of the old" \
  "data, once each: $(json "'%.0f MiB' % (j['store']['copied_bytes'] / 2**20)" \
  <status.json) (zeroes need no room)."
for d in alpha beta; do
  nbdcopy "$(export_uri $d)" now.$d
  cmp -s junk.$d now.$d || fail "disk $d is not what was written to it"
  rm now.$d
done
say "Read back, both disks are just what was written: the origins have moved on."
if e2fsck -fn alpha.img >/dev/null 2>&1 || xfs_repair -n beta.img >/dev/null 2>&1
then
  fail "a file system has survived"
fi

# ------------------------------------------------------------- the snapshots
step "What the snapshots say"
for d in alpha beta; do
  nbdcopy "$(grep "/$d@" <<<"$snapshots")" "then.$d"
  mkdir "files.$d"
done
show "nbdcopy 'nbd+unix:///alpha@...' then.alpha"
e2fsck -fn then.alpha >fsck.out 2>&1 || { cat fsck.out >&2; fail "e2fsck"; }
xfs_repair -n then.beta >fsck.out 2>&1 || { cat fsck.out >&2; fail "xfs_repair"; }
say "e2fsck and xfs_repair find both file systems in order."
debugfs -R "rdump / files.alpha" then.alpha >debugfs.out 2>&1 ||
  { cat debugfs.out >&2; fail "debugfs"; }
rm -rf files.alpha/lost+found
do_py xfs-files then.beta files.beta
for d in alpha beta; do
  do_py sums "$d.sums.then" "files.$d"
  diff "$d.sums" "$d.sums.then" >diff.out ||
    { head -n 20 diff.out >&2; fail "files of $d differ from their sources"; }
  n=$(wc -l <"$d.sums.then")
  say "$d: $n of $n files have the SHA-256 of their sources."
done
mapfile -t last < <(do_py numbers then.alpha then.beta)
distance=$((last[0] - last[1]))
[ "${last[0]}" -gt 0 ] && [ ${distance#-} -eq 1 ] ||
  fail "the last numbers are ${last[*]}: not one instant"
say "The last number on alpha is ${last[0]}, on beta ${last[1]}: one instant."

kill -INT $create
wait $create || fail "cowset create ended with status $?"
[ "$("$cowset" list --json)" = "[]" ] || fail "the set is still there"
stop_nbdkit
cmp -s junk.alpha alpha.img && cmp -s junk.beta beta.img ||
  fail "the image files are not what was written"

cat <<EOF

${bold}Done in $SECONDS s.${plain} Two disks, one instant: all that was on them then was read out
of the snapshots, though nothing of it is on the disks any more.

${bold}Try next${plain}, with a disk of your own:
   nbdkit -U /tmp/cowset.sock -t 64 \\
     $plugin \\
     disk.img
   export COWSET_URI='nbd+unix:///?socket=/tmp/cowset.sock'
   export PATH=$top_builddir/requester/cli:\$PATH
   cowset status
   cowset run disk -- sh -c 'nbdcopy "\$COWSET_URI_DISK" then.img'
   cowset help
EOF
