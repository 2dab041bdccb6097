#!/bin/sh
# Joins the pieces of a bundle that were carried to this machine (benchmarks/gpu/pack.ts makes them) and unpacks them into this checkout.
# It needs sha256sum, gzip and tar, and no network. Until all pieces are here it says which are missing, and ends with 2.
set -eu
cd "$(dirname "$0")/../.."
pieces=.gpu/pieces
done=.gpu/unpacked

if [ ! -f $pieces/sums ]; then
  echo "there is no bundle in $pieces: make one with benchmarks/gpu/pack.ts, and carry it here"
  exit 1
fi
if cmp -s $pieces/sums $done; then
  echo "unpacked already"
  exit 0
fi
if [ -e node_modules ] && [ ! -e $done ]; then
  echo "packages are installed here: no bundle is needed"
  exit 1
fi
missing=$(while read -r _ name; do [ -f "$pieces/$name" ] || printf ' %s' "$name"; done < $pieces/sums)
if [ -n "$missing" ]; then
  echo "not here yet:$missing"
  exit 2
fi
(cd $pieces && sha256sum --check --quiet sums)
while read -r _ name; do cat "$pieces/$name"; done < $pieces/sums | tar -xz
cp $pieces/sums $done
echo "unpacked; now: .gpu/bin/node benchmarks/gpu/run.ts"
