#!/usr/bin/env bash
# bench/gpu/check_training.sh FOLDER OUTPUT: the trainer on the GPU beside the CPU (bench/gpu/run starts it). FOLDER is what launch/package made;
# what is trained goes to OUTPUT. A tiny model, 12 steps:
#   f32 on the GPU     losses as on the CPU within 1e-4 relative
#   the same again     the same bits
#   4 ranks, Chimera   losses as of one rank within 1e-4 relative
#   bf16 on the GPU    losses as f32 on the CPU within 2e-2 relative
#   f16 on the GPU     within 1e-2, at a loss scale of 1024
# Prints a line a comparison; one that fails begins with FAILED. Exit code 1 if one failed.
set -euo pipefail
[[ $# -eq 2 && -x $1/lycia && -d $2 ]] || { echo "usage: bench/gpu/check_training.sh FOLDER OUTPUT" >&2; exit 2; }
folder=$1 output=$2

text=$output/text.txt
cat "$folder/docs/"*.md >"$text"
failed=0

train() { # train NAME RANKS KEY=VALUE...
  local name=$1 ranks=$2 settings=() key
  shift 2
  for key in "$@"; do settings+=(--set "$key"); done
  rm -rf "$output/train/$name"
  "$folder/lycia" train --config="$folder/launch/configs/quickstart.toml" --ranks="$ranks" --set "data.files=[\"$text\"]" --set model.layers=4 \
    --set model.heads=2 --set model.hidden=128 --set train.steps=12 --set train.warmup_steps=2 --set train.eval_batches=2 --set checkpoint.every=0 \
    --set generate.tokens=0 --set output.trace_step=0 --set "output.dir=$output/train/$name" "${settings[@]}" >"$output/train_$name.txt" 2>&1 || {
    echo "FAILED: $name did not train: $(tail -n 1 "$output/train_$name.txt")"
    exit 1
  }
}
losses() { sed -n 's/.*"step":\([0-9]*\),"loss":\([0-9.eE+-]*\),.*/\1 \2/p' "$output/train/$1/metrics.jsonl"; }
compare() { # compare NAME OTHER BOUND
  local line
  line=$(paste -d' ' <(losses "$1") <(losses "$2") | awk -v bound="$3" '
    $1 != $3 || NF != 4 {wrong = 1}
    {d = ($2 - $4) / $4; if (d < 0) d = -d; if (d > most) most = d; if (!(d <= bound)) wrong = 1}
    END {printf "%s %d losses, largest relative difference %.2g, bound %s", (wrong || NR < 12) ? "FAILED:" : "ok:", NR, most, bound}')
  echo "$line: $1 against $2"
  [[ $line == ok* ]] || failed=1
}

one=(parallel.stages=1 'parallel.schedule="1f1b"')
four=(parallel.stages=4 'parallel.schedule="chimera"')
train cpu 1 "${one[@]}"
train gpu 1 "${one[@]}" parallel.device=cuda
compare gpu cpu 1e-4
train again 1 "${one[@]}" parallel.device=cuda
if cmp -s "$output/train/gpu/model.safetensors" "$output/train/again/model.safetensors"; then
  echo "ok: the same weights twice, bit by bit"
else
  echo "FAILED: a second run of gpu has other weights"
  failed=1
fi
train four 4 "${four[@]}" parallel.device=cuda
compare four gpu 1e-4
train bf16 1 "${one[@]}" parallel.device=cuda 'train.precision="bf16"'
compare bf16 cpu 2e-2
train f16 1 "${one[@]}" parallel.device=cuda 'train.precision="f16"' train.loss_scale_initial=1024
compare f16 cpu 1e-2
[[ $failed -eq 0 ]] || exit 1
echo "GPU as CPU in f32, bf16 and f16, 4 ranks as one, the same bits twice"
