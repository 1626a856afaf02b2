#!/usr/bin/env bash
# check-includes - every dependency points one way.
#
# Reads the #include "..." lines of the product and fails on an arrow that
# points back.  The table below is the architecture (ARCHITECTURE.md): for each
# folder, what it may include beside itself.
#
# SPDX-License-Identifier: BSD-3-Clause

. "${COWSET_TESTS:-$(dirname "$0")}/functions.sh"
cd "$top_srcdir" || exit 1

base=cow-core/base
io="$base cow-core/io"
journal="$io cow-core/journal"
store="$journal cow-core/store"
map="$store cow-core/map"
gate="$base cow-core/gate"
volume="$map $gate cow-core/volume"
set="$volume cow-core/set"
provider="$set cow-core/provider"

# allowed FOLDER: the folders that its files may include from.
allowed ()
{
  case $1 in
    cow-core/base) echo "$base" ;;
    cow-core/io) echo "$io" ;;
    cow-core/store) echo "$store" ;;
    cow-core/journal) echo "$journal" ;;
    cow-core/map) echo "$map" ;;
    cow-core/gate) echo "$gate" ;;
    cow-core/volume) echo "$volume" ;;
    cow-core/set) echo "$set" ;;
    cow-core/provider) echo "$provider" ;;
    cow-core) echo "$provider cow-core" ;;
    protocol) echo protocol ;;
    nbdkit-plugin) echo "nbdkit-plugin protocol cow-core" ;;
    requester|requester/cli|requester/writers)
      echo "requester requester/cli requester/writers protocol" ;;
    requester/check) echo "requester/check $provider cow-core" ;;
    *) echo none ;;
  esac
}

# Headers of libraries, by the folders that may know them.
system_allowed ()
{
  case $2 in
    nbdkit-plugin.h|nbdkit-*) [ "$1" = nbdkit-plugin ] ;;
    libnbd.h) case $1 in requester|requester/cli|requester/writers) ;;
              *) return 1 ;; esac ;;
    liburing.h) [ "$1" = cow-core/io ] ;;
    jansson.h) case $1 in cow-core*|requester/check) return 1 ;; esac ;;
    uuid/*) ;;
    xxhash.h) case $1 in cow-core/base|protocol) ;; *) return 1 ;; esac ;;
    pthread.h)
      # Locks and waits of the engine go through base/, so that the simulator
      # can own them.
      case $1 in cow-core/base) ;; cow-core*) return 1 ;; esac ;;
    *) ;;
  esac
}

# Where a quoted name is found, in the order in which the compiler looks: in
# $target.  (No process is started for it: there are thousands.)
resolve ()
{
  local from=$1 name=$2 dir d
  case $from in
    cow-core*|nbdkit-plugin|requester/check) dir="$from cow-core ." ;;
    requester*) dir="$from requester protocol ." ;;
    *) dir="$from ." ;;
  esac
  for d in $dir; do
    if [ -e "$d/$name" ]; then
      target=$d/$name
      case $target in
        *..*) target=$(realpath --relative-to=. "$target") ;;
      esac
      target=${target#./}
      return 0
    fi
  done
  target=nowhere/$name
}

errors=0
files=0
complain () { echo "$1:$2: $3"; errors=$((errors + 1)); }

while IFS= read -r file; do
  folder=${file%/*}
  files=$((files + 1))
  may=$(allowed "$folder")
  while IFS=: read -r line text; do
    name=${text#*[\"<]}
    name=${name%%[\">]*}
    case $text in
      *'<'*)
        [ "$name" != config.h ] || continue
        system_allowed "$folder" "$name" ||
          complain "$file" "$line" "$folder must not know <$name>" ;;
      *)
        [ "$name" != config.h ] || continue
        resolve "$folder" "$name"
        ok=
        for a in $may; do
          [ "${target%/*}" != "$a" ] || ok=yes
        done
        # cow.h names the engine for its users, and its parts may share it.
        case $folder:$target in cow-core/*:cow-core/cow.h) ok=yes ;; esac
        # The plugin sees the engine through cow.h and the tools in base/.
        case $folder:$target in
          nbdkit-plugin:cow-core/base/*) ok=yes ;;
        esac
        [ -n "$ok" ] ||
          complain "$file" "$line" "$folder must not include $target" ;;
    esac
  done < <(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]' "$file")
done < <(find cow-core protocol nbdkit-plugin requester -name '*.[ch]' | sort)

[ "$files" -gt 0 ] || fail "found no sources"
[ "$errors" -eq 0 ] || fail "$errors includes point back (see ARCHITECTURE.md)"
echo "$files files, no include points back"
