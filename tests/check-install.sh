#!/usr/bin/env bash
# check-install - "make install" puts everything where its users look: nbdkit
# finds the plugin, pkg-config the library, a program of somebody else's
# compiles against it, and "make uninstall" leaves nothing.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")}/functions.sh"
requires make pkg-config

# Not the options of a make that may have started this.
unset MAKEFLAGS MFLAGS MAKELEVEL

prefix=$tmp/usr
make -s -C "$top_builddir" prefix="$prefix" install >"$tmp/install.log" 2>&1 || {
  cat "$tmp/install.log"
  fail "make install"
}
(cd "$prefix" && find . ! -type d | sort)

plugins=$(find "$prefix" -name nbdkit-cowset-plugin.so)
[ -n "$plugins" ] || fail "the plugin was not installed"
[ -x "$prefix/bin/cowset" ] || fail "cowset was not installed"
"$prefix/bin/cowset" --version || fail "the installed cowset does not run"

# A program of somebody else's, with nothing but what was installed.
cat >"$tmp/user.c" <<'END'
#include <cowset.h>
#include <stddef.h>
int main (void) { return 0; }
END
pc=$(find "$prefix" -name cowset.pc)
[ -n "$pc" ] || fail "cowset.pc was not installed"
export PKG_CONFIG_PATH=${pc%/*}
# The build's prefix is in it; the files are under another one.
flags="--define-variable=prefix=$prefix cowset"
# shellcheck disable=SC2046,SC2086
if [ -z "$sanitizers" ]; then
  ${CC:-cc} -std=c11 -Wall -Wextra -Werror -pedantic \
    $(pkg-config --cflags $flags) "$tmp/user.c" -o "$tmp/user" \
    -Wl,--no-as-needed $(pkg-config --libs $flags) ||
    fail "a program does not compile with the installed library"
  LD_LIBRARY_PATH=$(pkg-config --variable=libdir $flags) "$tmp/user" ||
    fail "a program does not run with the installed library"
fi
make -s -C "$top_builddir" prefix="$prefix" uninstall >"$tmp/install.log" 2>&1 || {
  cat "$tmp/install.log"
  fail "make uninstall"
}
left=$(find "$prefix" ! -type d)
[ -z "$left" ] || fail "make uninstall left $left"
