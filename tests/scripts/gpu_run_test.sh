#!/usr/bin/env bash
# bench/gpu/run without a GPU (it says so), then with stand-ins for nvidia-smi, the programs and PyTorch: plan, budgets, verdicts, table.
set -euo pipefail
root=$(dirname "$(realpath WORKSPACE)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
run=$root/bench/gpu/run

failures=0
expect() { # expect WORDS ACTUAL EXPECTED
  if [[ $2 != "$3" ]]; then
    echo "FAILED: $1: got '$2', expected '$3'"
    failures=$((failures + 1))
  fi
}
matches() { # matches WORDS PATTERN FILE
  if ! grep -qE -- "$2" "$3"; then
    echo "FAILED: $1: nothing like '$2' in:"
    cat "$3"
    failures=$((failures + 1))
  fi
}
start() { # start ARGUMENT...: exit code in $code, words in messages
  code=0
  "$run" "$@" >messages 2>&1 || code=$?
}

# Without a GPU: a path that has nothing but the tools.
mkdir tools folder
for tool in bash awk sed head tail date dirname nvidia-smi; do
  ln -s "$(command -v $tool || echo /nonexistent)" "tools/$tool"
done
rm tools/nvidia-smi
PATH=$work/tools start folder
expect "no GPU" "$code" 2
matches "no GPU is said" "no GPU here" messages

start --dry-run folder
expect "the plan" "$code" 0
matches "a part with its budget" "^train +[0-9]+ s " messages
budgets=$(awk '$3 == "s" {sum += $2} END {print sum}' messages)
expect "budgets are under 8 minutes" "$([[ $budgets -le 480 && $budgets -gt 60 ]] && echo yes || echo "$budgets")" yes
matches "their sum is said" "^at most $budgets s in [0-9]+ parts, and [0-9]+ s in all" messages
start --dry-run --only=test folder
expect "some parts" "$(grep -vc '^test:' messages)" 1
for wrong in --only=nothing --fast --llmc="$work/none" "$work/none"; do
  start --dry-run "$wrong"
  expect "refused: $wrong" "$code $(wc -l <messages)" "2 1"
done

# Stand-ins that print what the programs print.
mkdir -p with/tests with/bench with/docs with/launch/configs bin
for _ in {1..4000}; do echo "some text"; done >with/docs/a.md
cat >bin/nvidia-smi <<'STUB'
#!/usr/bin/env bash
echo "NVIDIA Stand-in, 580.1, 81559 MiB"
STUB
cat >bin/python3 <<'STUB'
#!/usr/bin/env bash
case $2 in
  kernels)
    printf 'PyTorch\nmatmul\tsquare 8192x8192x8192\tPyTorch\t800.0\tTFLOP/s\n'
    printf 'attention\tforward B2 H16 G16 T8192 d128 full\tcuDNN\t640.0\tTFLOP/s\n'
    printf 'attention\tforward B2 H16 G16 T8192 d128 full\tflash\t350.0\tTFLOP/s\n' ;;
  step) printf 'step\t124M\ttorch.compile, autocast\t60.000\tms\n' ;;
esac
STUB
cat >with/lycia <<'STUB'
#!/usr/bin/env bash
if [[ $1 == bench && $* == *--layers=48* ]]; then echo "lycia: out of memory" >&2; exit 1; fi
if [[ $1 == bench ]]; then echo '{"warmup": 3, "median_ms": 50.0000, "best_ms": 49.0, "gflops": 400000.000, "peak_gflops": 0.000}'; fi
if [[ $1 == train ]]; then
  for word; do
    case $word in output.dir=*) dir=${word#*=} ;; parallel.device=cuda) device=cuda ;; train.precision=*) precision=bf16 ;; esac
  done
  mkdir -p "$dir"
  for step in {1..12}; do
    loss=5.0000$step
    [[ -n ${WRONG:-} && ${device:-} == cuda && $step == 7 && -z ${precision:-} ]] && loss=5.1
    echo "{\"step\":$step,\"loss\":$loss,\"lr\":0.001,\"grad_norm\":1}"
  done >"$dir/metrics.jsonl"
  echo weights >"$dir/model.safetensors"
fi
STUB
cat >with/bench/gpu_bench <<'STUB'
#!/usr/bin/env bash
printf '%-44s %10.1f us %8.1f GB/s %6.1f%% of peak %6.1f%% of copy   (1.0 to 2.0 us)\n' "copy 1 GiB (read and write)" 700 3000 90 100 "adamw f32 268435456" 2000 2700 80 90
echo "gemm square                                    8192 x  8192 x  8192     1400.0 us    785.0 TFLOP/s   (1.0 to 2.0 us)"
echo "attention forward  B2  H16 G16 T8192  d128 full      3.400 ms  648.0 TFLOP/s   (3.3 to 3.5 ms)"
STUB
for name in device kernels gemm attention comm cuda_layouts; do
  cat >with/tests/${name}_test <<'STUB'
#!/usr/bin/env bash
case $0 in
  *gemm_test) printf '[  PASSED  ] 0 tests.\n[  SKIPPED ] 9 tests, listed below:\n[  SKIPPED ] Gemm.A\n' ;;
  *comm_test) printf '[  PASSED  ] 3 tests.\n[  FAILED  ] 1 test, listed below:\n[  FAILED  ] Comm.A\n'; exit 1 ;;
  *attention_test) exec sleep 60 ;;
  *) printf '[  PASSED  ] 41 tests.\n[  SKIPPED ] 2 tests, listed below:\n' ;;
esac
STUB
done
chmod +x bin/* with/lycia with/bench/gpu_bench with/tests/*
export PATH=$work/bin:$PATH

start with --output="$work/out" --only=test:k,test:g,test:c,test:n,train,kernels,torch,step,llmc
expect "failures are counted" "$code" 1
matches "a test" "^test:kernels +[0-9]+ s  41 passed, 2 skipped, 0 failed" messages
matches "a test that only skips" "^test:gemm .*FAILED: nothing ran" messages
matches "a test that fails" "^test:comm .*FAILED: 3 passed, 0 skipped, 1 failed" messages
matches "a test that is not there" "^test:nccl .*not run: no tests/nccl_test" messages
matches "training" "^train .*GPU as CPU" messages
matches "a step that cannot run" "^step:1.5B .*FAILED with exit code 1: lycia: out of memory" messages
matches "llm.c not given" "^llmc:124M .*not run: no --llmc=FOLDER" messages
matches "products beside PyTorch's" "^matmul +square 8192x8192x8192 +785.0 +800.0 PyTorch +0.98 +98%" messages
matches "attention beside the faster rival" "^attention +forward B2 H16 G16 T8192 d128 full +648.0 +640.0 cuDNN +1.01 +81%" messages
matches "share of copy" "^bandwidth +adamw f32 268435456 +2700.0 +not run +- +90%" messages
matches "a step: time, ratio, share of the peak of products" "^step +124M +50.0 +60.0 torch.compile, autocast +1.20 +50%" messages
expect "the table is kept" "$(grep -c '^matmul' out/table.txt)" 1

WRONG=yes start with --output="$work/wrong" --only=train
expect "a wrong loss" "$code" 1
matches "is shown" "^train .*FAILED: .*12 losses" messages

# llm.c is given its own format: 256 numbers, the third the count of the u16 that follow.
mkdir llmc
cat >llmc/train_gpt2cu <<'STUB'
#!/usr/bin/env bash
while [[ $1 != -i ]]; do shift; done
echo "file $(stat -c %s "$2") header $(od -An -t u4 -N 12 "$2" | tr -s ' ') tokens $(od -An -t u2 -j 1024 -N 8 "$2" | tr -s ' ')"
for step in {1..14}; do echo "step $(printf %4d $step)/14 | loss 9.1 (+nanz)| norm 1.0 (+nanz)| lr 1.00e-04 | $((step == 9 ? 900 : 70 + step)).50 ms | 40.1% bf16 MFU | 9 tok/s"; done
STUB
chmod +x llmc/train_gpt2cu
start with --output="$work/llmc_out" --only=llmc,step:124M --llmc="$work/llmc"
expect "beside llm.c" "$code" 0
matches "its tokens" "^file 525312 header +20240520 1 262144 tokens +115 111 109 101" llmc_out/llmc_124M.txt
matches "its median after four steps, an outlier among them" "^step +124M +50.0 +80.5 llm.c +1.61" messages

# A part that takes longer than its budget is ended.
sed 's/test:attention  25 /test:attention  3 /' "$run" >"$work/run_short"
cp "$root"/bench/gpu/{parts.sh,check_training.sh} "$work/"
begin=$SECONDS code=0
bash "$work/run_short" with --output="$work/short" --only=test:a >messages 2>&1 || code=$?
expect "ended at its budget" "$code $((SECONDS - begin < 30))" "1 1"
matches "over its budget" "^test:attention .*FAILED: not done after 3 s" messages

cat >bin/python3 <<'STUB'
#!/usr/bin/env bash
exit 1
STUB
start with --output="$work/bare" --only=torch,step:124M
expect "without PyTorch" "$code" 0
matches "says so" "^torch:kernels .*not run: python3 has no PyTorch that sees the GPU" messages
matches "ours alone" "^step +124M +50.0 +not run" messages

rm with/bench/gpu_bench
start with --output="$work/nocuda"
expect "a folder built without CUDA" "$code" 2
matches "says so" "built without CUDA" messages

echo "gpu_run_test: $failures failures"
[[ $failures -eq 0 ]]
