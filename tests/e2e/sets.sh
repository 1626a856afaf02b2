# sets.sh - snapshot sets for scripts; read after functions.sh.
# SPDX-License-Identifier: BSD-3-Clause

declare -A maker_of

# take_set LABEL [OPTION VALUE]... VOLUME...: a set of the server $uri that
# stays until drop_set LABEL or the end of the script.  $set is its id.
take_set ()
{
  local label=$1 i a volumes=0 value=
  shift
  # Options have their value in the next word.
  for a; do
    case $value$a in
      --*) value=of ;;
      of*) value= ;;
      *) volumes=$((volumes + 1)) ;;
    esac
  done
  : >"$tmp/set.$label"
  "$cowset" -c "$uri" create --label "$label" "$@" >"$tmp/set.$label" \
    2>"$tmp/set.$label.err" &
  maker_of[$label]=$!
  at_exit "kill $! 2>/dev/null"
  for ((i = 0; i < patience * 20; i++)); do
    [ "$(wc -l <"$tmp/set.$label")" -le $volumes ] || break
    if is_zombie "${maker_of[$label]}"; then
      cat "$tmp/set.$label.err" >&2
      fail "cowset create $*"
    fi
    sleep 0.05
  done
  [ "$(wc -l <"$tmp/set.$label")" -gt $volumes ] ||
    fail "no set of $* in $patience s"
  set=$(head -n 1 "$tmp/set.$label")
}

# drop_set LABEL: fails unless its maker ends well.
drop_set ()
{
  kill -INT "${maker_of[$1]}"
  wait "${maker_of[$1]}" || fail "cowset create ended with status $?"
  unset "maker_of[$1]"
}

# snapshot_uri LABEL VOLUME: by the set's id.
snapshot_uri () { export_uri "$2@$(head -n 1 "$tmp/set.$1")"; }

# same IMAGE IMAGE: equal, byte for byte (not: with the same holes).
same ()
{
  qemu-img compare -f raw -F raw "$1" "$2" >"$tmp/compare.out" 2>&1 ||
    { cat "$tmp/compare.out" >&2; fail "$1 and $2 differ"; }
}
