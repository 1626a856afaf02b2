#!/usr/bin/env bash
# kill -9 of a server with a store under load, again and again: acknowledged
# writes are there, and sets are right.
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")/..}/functions.sh"

requires_python nbd

choose_seed
mkdir "$tmp/store"
truncate -s 2M "$tmp/a.img" "$tmp/b.img"
cat >"$tmp/server" <<SH
#!/usr/bin/env bash
${sanitize_preload:+export LD_PRELOAD='$sanitize_preload $tests_builddir/.libs/libno-dlclose.so' LSAN_OPTIONS=exitcode=0}
exec nbdkit "\$@"
SH
chmod +x "$tmp/server"
"$python" "$tests_srcdir/e2e/store-kill.py" "$(scaled 50)" "$seed" "$tmp" \
  "$cowset" "$tmp/server" -t 16 "$plugin" "$tmp/a.img" "$tmp/b.img" \
  store="$tmp/store" store-reserve=0
