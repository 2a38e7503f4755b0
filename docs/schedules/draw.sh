#!/bin/sh
# Draws the pictures of docs/schedules.md anew, and fills in what its embedded commands print; //docs:docs_test fails when one is stale.
# usage: docs/schedules/draw.sh [path of the program lycia]
set -eu
cd "$(dirname "$0")/../.."
lycia=${1:-bazel-bin/launch/lycia}
draw() {
  file=docs/schedules/$1.svg
  shift
  "$lycia" schedule "$@" --format=svg > "$file"
}

draw gpipe --name=gpipe --stages=4 --micro-batches=8
draw 1f1b --name=1f1b --stages=4 --micro-batches=8
draw interleaved --name=interleaved --stages=4 --micro-batches=8
draw gems --name=gems --stages=4 --micro-batches=4
draw chimera --name=chimera --stages=4 --micro-batches=8
draw chimera-doubling --name=chimera-doubling --stages=4 --micro-batches=8
draw chimera-halving --name=chimera-halving --stages=4 --micro-batches=8
draw chimera-4-pipes --name=chimera --stages=8 --micro-batches=8 --pipes=4
draw chimera-continuous --name=chimera-continuous --stages=4 --micro-batches=8
draw chimera-zb --name=chimera-zb --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw zb-h1 --name=zb-h1 --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw zb-h2 --name=zb-h2 --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw zb-v --name=zb-v --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw v-half --name=v-half --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw dualpipe --name=dualpipe --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw dualpipev --name=dualpipev --stages=4 --micro-batches=8 --cost=F=1,I=1,W=1
draw sync --name=chimera --stages=8 --micro-batches=8 --sync=3 --gradient-sync=eager-opt
draw mine --from=docs/schedules/mine.csv --cost=F=1,I=1,W=1
draw compare compare --stages=4 --micro-batches=8 --schedules=1f1b,chimera,chimera-continuous,chimera-zb,zb-v --cost=F=1,I=1,W=1

# A console block that starts with "$ lycia schedule ..." goes on with the output.
awk -v lycia="$lycia" '
  /^```/ { output = 0 }
  output { next }
  { print }
  /^\$ lycia schedule / { output = 1; fflush(); sub(/^\$ lycia/, lycia); system($0 " 2>&1") }
' docs/schedules.md > docs/schedules.md.new
mv docs/schedules.md.new docs/schedules.md
