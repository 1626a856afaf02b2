# store.sh - servers with a store for scripts; read after functions.sh.
# SPDX-License-Identifier: BSD-3-Clause

# kill_nbdkit: as a crash of the server does.
kill_nbdkit ()
{
  nbdkit_pids=$(printf ' %s ' "$nbdkit_pids" | sed "s/ $nbdkit_pid / /")
  kill -KILL "$nbdkit_pid"
  wait "$nbdkit_pid" 2>/dev/null || true
}

# overwrite VOLUME SEED: writes and zeroes all over it, flushed.
overwrite ()
{
  "$python" - "$(export_uri "$1")" "$2" <<'PY'
import sys, random, nbd
r = random.Random(int(sys.argv[2]))
h = nbd.NBD()
h.connect_uri(sys.argv[1])
size = h.get_size()
for i in range(15):
    n = r.choice([1, 512, 4096, 5000, 65536])
    h.pwrite(r.randbytes(n), r.randrange(0, size - n))
h.zero(65536, 4096 * r.randrange(0, size // 4096 - 16))
h.flush()
h.shutdown()
PY
}

# take LABEL VOLUME...: a persistent set; $tmp/VOLUME.LABEL is what it holds
# of a volume that nobody writes to at the time.
take ()
{
  local label=$1 v
  shift
  for v; do nbdcopy "$(export_uri "$v")" "$tmp/$v.$label"; done
  "$cowset" -c "$uri" create --label "$label" "$@" >"$tmp/$label.out"
}

# right LABEL VOLUME...: its snapshots read as they did.
right ()
{
  local label=$1 v
  shift
  for v; do
    nbdcopy "$(export_uri "$v@$label")" "$tmp/now"
    cmp "$tmp/now" "$tmp/$v.$label"
  done
}

# sets: how many are listed.
sets () { "$cowset" -c "$uri" list --json | jq length; }

# end_of SET VOLUME: how its snapshot ended, null while it is alive.
end_of ()
{
  "$cowset" -c "$uri" info --json "$1" |
    jq -r --arg v "$2" '.snapshots[] | select(.volume == $v) | .end'
}
