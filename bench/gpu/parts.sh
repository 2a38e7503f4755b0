# shellcheck shell=bash disable=SC2154
# The parts of bench/gpu/run, which sources this: why_not NAME (a reason, or nothing), run_part NAME SECONDS, judge NAME CODE LOG SECONDS,
# print_table. A part appends its figures to $output/rows, tab-separated: kind, case, whose, figure, unit.

gpt_124m=(--layers=12 --heads=12 --hidden=768)
gpt_15b=(--layers=48 --heads=25 --hidden=1600)
llama_1b=(--layers=16 --heads=32 --kv_heads=8 --hidden=2048 --ffn=8192 --vocabulary=128256 --batch=4 --sequence=2048)
step_sizes=(--vocabulary=50257 --batch=8 --sequence=1024)

why_not() {
  case $1 in
    memcheck:* | racecheck:*)
      if [[ -z $sanitizer ]]; then echo "no compute-sanitizer on the path, in CUDA_HOME/bin or in /usr/local/cuda/bin"
      elif [[ ! -x $folder/tests/$(test_of "${1/*:/test:}") ]]; then echo "no tests/$(test_of "${1/*:/test:}") in the folder"; fi
      ;;
    test:*) [[ -x $folder/tests/$(test_of "$1") ]] || echo "no tests/$(test_of "$1") in the folder" ;;
    torch:*) echo "$torch_reason" ;;
    llmc:*)
      if [[ -z $llmc ]]; then echo "no --llmc=FOLDER"
      elif [[ ! -x $llmc/train_gpt2cu ]]; then echo "no train_gpt2cu in $llmc; make train_gpt2cu there"; fi
      ;;
  esac
}

test_of() {
  case $1 in
    test:layouts) echo cuda_layouts_test ;;
    test:images) echo cuda_image_layouts_test ;;
    *) echo "${1#test:}_test" ;;
  esac
}

run_part() {
  local name=$1 limit=(timeout --kill-after=5 "$2")
  case $name in
    doctor) "${limit[@]}" "$folder/lycia" doctor ;;
    test:*) (cd "$output" && "${limit[@]}" "$folder/tests/$(test_of "$name")") ;;
    memcheck:* | racecheck:*) sanitize "${name%%:*}" "$(test_of "${name/*:/test:}")" ;;
    train) "${limit[@]}" "$here/check_training.sh" "$folder" "$output" ;;
    kernels) "${limit[@]}" "$folder/bench/gpu_bench" ;;
    step:124M) lycia_step "${gpt_124m[@]}" ;;
    step:1.5B) lycia_step "${gpt_15b[@]}" ;;
    step:llama) lycia_llama_step ;;
    torch:kernels) "${limit[@]}" "$python" "$here/torch_peers.py" kernels ;;
    torch:124M) "${limit[@]}" "$python" "$here/torch_peers.py" step "${gpt_124m[@]}" --seconds="$2" "${step_sizes[@]}" ;;
    torch:1.5B) "${limit[@]}" "$python" "$here/torch_peers.py" step "${gpt_15b[@]}" --seconds="$2" "${step_sizes[@]}" ;;
    torch:llama) "${limit[@]}" "$python" "$here/torch_peers.py" llama "${llama_1b[@]}" --seconds="$2" ;;
    llmc:124M) llmc_step ;;
  esac
}

# The sizes of llama_1b are that file's.
lycia_llama_step() {
  "${limit[@]}" "$folder/lycia" bench step --config="$folder/launch/configs/llama_1b.toml" --set parallel.device=cuda --steps=10 --warmup=3 --format=json
}

# Of programs that test both devices, CUDA's half: the other one needs no sanitizer, and takes long under it.
sanitize() {
  local filter=()
  case $2 in kernels_test | device_test) filter=(--gtest_filter='*Cuda*') ;; esac
  (cd "$output" && "${limit[@]}" "$sanitizer" --tool "$1" --error-exitcode 99 "$folder/tests/$2" "${filter[@]}")
}

lycia_step() {
  "${limit[@]}" "$folder/lycia" bench step --set parallel.device=cuda --precision=bf16 --steps=10 --warmup=3 --format=json "$@" "${step_sizes[@]}"
}

# Random weights (-e d12) on a text whose characters are the tokens, in llm.c's format: 256 numbers, then u16.
llmc_step() {
  local tokens=262144 file=$output/llmc_tokens.bin byte
  {
    for byte in 20240520 1 "$tokens"; do
      printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((byte & 255)) $((byte >> 8 & 255)) $((byte >> 16 & 255)) $((byte >> 24 & 255)))"
    done
    head -c $((4 * 253)) /dev/zero
    # A byte and a zero are a token; a text, repeated until the reader has enough and the pipe ends.
    while cat "$folder/docs/"*.md 2>/dev/null; do :; done | LC_ALL=C tr -cd '\12\40-\176' | head -c "$tokens" | iconv -f ascii -t utf-16le
  } >"$file"
  (cd "$llmc" && "${limit[@]}" ./train_gpt2cu -i "$file" -j "$file" -e d12 -b 8 -t 1024 -d 8192 -x 14 -v 0 -s 0 -h 0)
}

number_of() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" "$2" | head -n 1; } # number_of KEY FILE

judge() {
  local name=$1 code=$2 log=$3 budget=$4 text=""
  collect "$name" "$log" >>"$output/rows"
  if [[ $code -eq 124 || $code -eq 137 ]]; then
    case $name in
      test:* | train | memcheck:* | racecheck:*) echo "FAILED: not done after $budget s; $log" ;;
      *) echo "cut off after $budget s; the table has what was measured" ;;
    esac
    return
  fi
  case $name in
    test:*)
      text=$(awk '/^\[  PASSED  \]/ {p = $4} /^\[  SKIPPED \]/ && $4 ~ /^[0-9]/ {s = $4} /^\[  FAILED  \]/ && $4 ~ /^[0-9]/ {f = $4}
                  END {printf "%d passed, %d skipped, %d failed", p, s, f}' "$log")
      # A machine that has a GPU and passes nothing has proven nothing.
      if [[ $code -ne 0 ]]; then echo "FAILED: $text; $log"
      elif [[ $text == "0 passed"* ]]; then echo "FAILED: nothing ran ($text); $log"
      else echo "$text"; fi
      ;;
    memcheck:* | racecheck:*)
      text=$(sed -n 's/^=* *\(ERROR SUMMARY: .*\|RACECHECK SUMMARY: .*\)/\1/p' "$log" | tail -n 1)
      if [[ $code -eq 0 && $text == *" 0 "* ]]; then echo "$text"
      else echo "FAILED with exit code $code: ${text:-no summary of compute-sanitizer}; $log"; fi
      ;;
    train) if [[ $code -eq 0 ]]; then tail -n 1 "$log"; else echo "FAILED: $(grep -m 1 '^FAILED' "$log" | cut -c9-); $log"; fi ;;
    *) if [[ $code -eq 0 ]]; then echo "done"; else echo "FAILED with exit code $code: $(tail -n 1 "$log" | cut -c1-120); $log"; fi ;;
  esac
}

# The figures of a part's output.
collect() {
  local name=$1 log=$2
  case $name in
    kernels)
      awk -v OFS='\t' '
        / of copy / {
          for (i = 1; i <= NF; ++i) if ($i == "us") { name = $1; for (j = 2; j < i - 1; ++j) name = name " " $j; break }
          print "bandwidth", name, "lycia", $(i + 1), "GB/s"
        }
        /^gemm .*TFLOP/ {
          for (i = 1; i <= NF; ++i) if ($i == "TFLOP/s") rate = $(i - 1)
          for (i = 2; i <= NF && $(i + 1) != "x"; ++i) name = i == 2 ? $2 : name " " $i
          print "matmul", name " " $i "x" $(i + 2) "x" $(i + 4), "lycia", rate, "TFLOP/s"
        }
        /^attention .*TFLOP/ {
          for (i = 1; i <= NF; ++i) if ($i == "TFLOP/s") rate = $(i - 1)
          print "attention", $2 " " $3 " " $4 " " $5 " " $6 " " $7 " " $8, "lycia", rate, "TFLOP/s"
        }
        /^conv .*TFLOP/ {
          for (i = 1; i <= NF; ++i) if ($i == "TFLOP/s") rate = $(i - 1)
          use["forward"] = "forward"; use["din"] = "input_gradient"; use["dweight"] = "weight_gradient"
          split($6, stride, ",")
          print "convolution", use[$2] " " $3 " " $4 " stride " stride[1], "lycia", rate, "TFLOP/s"
        }
        # "reuse exact bf16 16384 x 4096 x 4096 r 0.50: dense .. us .. TFLOP/s, find .. us, product and expand .. us (..), reuse .. us, 1.50 x"
        /^reuse .* us, *[0-9.]+ x$/ {
          dense = 0
          for (i = 2; i <= NF; ++i) {
            if ($i == "dense" && !dense) dense = $(i + 1)
            if ($i == "reuse") with = $(i + 1)
            if ($i == "r") ratio = $(i + 1)
          }
          sub(":", "", ratio)
          name = $2 " " $3 " " $4 "x" $6 "x" $8 " r " ratio
          print "reuse", name, "lycia", with, "us"
          print "reuse", name, "our dense product", dense, "us"
        }' "$log"
      ;;
    step:*)
      local case=${name#step:}
      [[ $case != llama ]] || case="Llama 1B"
      [[ -z $(number_of median_ms "$log") ]] || printf 'step\t%s\tlycia\t%s\tms\nrate\t%s\tlycia\t%s\tGFLOP/s\n' "$case" \
        "$(number_of median_ms "$log")" "$case" "$(number_of gflops "$log")"
      ;;
    torch:*) grep -P '^(matmul|attention|convolution|step)\t' "$log" ;;
    llmc:*)
      # "step   12/14 | ... | 31.20 ms | ...": the median of all but the first four.
      sed -n 's/^step  *\([0-9]*\)\/.*| *\([0-9.]*\) ms .*/\1 \2/p' "$log" | awk '$1 > 4 {print $2}' | sort -n |
        awk '{v[NR] = $1} END {if (NR > 0) printf "step\t124M\tllm.c\t%s\tms\n", v[int((NR + 1) / 2)]}'
      ;;
  esac
}

# One line a case: ours, the best of the others, the ratio (above 1: ours is faster), the share of the measured peak: that of products (the
# fastest of this run, ours or PyTorch's) or of a copy.
print_table() {
  echo
  echo "$gpu; $(date -u +%F)"
  awk -F'\t' '
    function time(unit) { return unit == "ms" || unit == "us" }
    function figure(x, otherwise) { return x > 0 ? sprintf("%.1f", x) : otherwise }
    { key = $1 "\t" $2; if (!(key in seen)) { seen[key] = 1; order[++n] = key } unit[key] = $5
      if ($1 == "rate") { work[$2] = $4 / 1000; next }
      if ($3 == "lycia") ours[key] = $4
      else if (!(key in best) || (time($5) ? $4 < best[key] : $4 > best[key])) { best[key] = $4; who[key] = $3 }
      if ($1 == "matmul" && $4 > peak) peak = $4
      if ($1 == "bandwidth" && $2 ~ /^copy 1 GiB/) copy = $4 }
    END {
      printf "%-10s %-52s %10s %10s %-22s %6s %7s\n", "what", "case", "lycia", "best other", "which", "ratio", "of peak"
      for (i = 1; i <= n; ++i) {
        key = order[i]; split(key, part, "\t"); if (part[1] == "rate") continue
        a = ours[key]; b = best[key]; ratio = share = "-"
        if (a > 0 && b > 0) {
          r = time(unit[key]) ? b / a : a / b
          ratio = sprintf("%.2f", r)
          # Of convolutions the median counts: sorted as they come.
          if (part[1] == "convolution") { for (j = convs++; j > 0 && sorted[j - 1] > r; --j) sorted[j] = sorted[j - 1]; sorted[j] = r }
        }
        if (part[1] == "bandwidth" && copy > 0) share = sprintf("%.0f%%", 100 * a / copy)
        if ((part[1] == "matmul" || part[1] == "attention" || part[1] == "convolution") && peak > 0 && a > 0) share = sprintf("%.0f%%", 100 * a / peak)
        if (part[1] == "step" && peak > 0 && work[part[2]] > 0) share = sprintf("%.0f%%", 100 * work[part[2]] / peak)
        printf "%-10s %-52s %10s %10s %-22s %6s %7s\n", part[1], part[2], figure(a, "not run"), figure(b, "not run"), who[key], ratio, share
      }
      if (convs > 0) printf "convolution: median ratio %.2f of %d cases\n", sorted[int((convs - 1) / 2)], convs
      printf "bandwidth in GB/s, matmul, attention and convolution in TFLOP/s, reuse in us, step in ms; peak: %s TFLOP/s, copy: %s GB/s\n",
        figure(peak, "not measured"), figure(copy, "not measured")
    }' "$output/rows"
}
