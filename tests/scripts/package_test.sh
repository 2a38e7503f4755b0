#!/usr/bin/env bash
# launch/package with a stand-in for bazel that "builds" little programs: what the folder holds, what README.txt says, what is refused.
set -euo pipefail
root=$(dirname "$(realpath WORKSPACE)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

failures=0
expect() { # expect WORDS ACTUAL EXPECTED
  if [[ $2 != "$3" ]]; then
    echo "FAILED: $1: got '$2', expected '$3'"
    failures=$((failures + 1))
  fi
}
contains() { # contains WORDS TEXT FILE
  if ! grep -qF -- "$2" "$3"; then
    echo "FAILED: $1: no '$2' in:"
    cat "$3"
    failures=$((failures + 1))
  fi
}

echo 'int main(void) { return 0; }' >program.c
gcc program.c -o plain
gcc program.c -o sums -Wl,--no-as-needed -lm
# Libraries by the names of CUDA's and of one that should have been linked statically.
for name in other.so.1 absl_strings.so.20220623; do
  gcc -shared -x c /dev/null -o "lib$name" -Wl,-soname,"lib$name"
done
gcc -shared program.c -o libnccl.so.2 -Wl,-soname,libnccl.so.2 -Wl,--no-as-needed "$work/libother.so.1"
gcc program.c -o gpu -L"$work" -Wl,-rpath-link,"$work" -Wl,--no-as-needed "$work/libnccl.so.2"
gcc program.c -o shared -Wl,--no-as-needed "$work/libabsl_strings.so.20220623"

# The stand-in: takes lycia from $LYCIA_PROGRAM, the other programs from $PACKAGED.
cat >bazel <<'STUB'
#!/usr/bin/env bash
stub=$(dirname "$(realpath "$0")")
echo "$*" >>"$stub/bazel.log"
case $1 in
  build)
    [[ $* == *--config=package* && $* == *//launch:lycia* ]] || exit 1
    rm -rf "$stub/bin"
    mkdir -p "$stub/bin/launch" "$stub/bin/tests/gpu"
    cp "$stub/$LYCIA_PROGRAM" "$stub/bin/launch/lycia"
    for program in $PACKAGED; do
      cp "$stub/gpu" "$stub/bin/tests/gpu/$program"
      echo "bazel-out/k8-opt/bin/tests/gpu/$program"
    done >"$stub/bin/tests/gpu/package_programs.txt"
    ;;
  info) echo "$stub/bin" ;;
esac
STUB
chmod +x bazel
export LYCIA_BAZEL=$work/bazel LYCIA_CACHE=$work/cache LD_LIBRARY_PATH=$work
pack() { # pack LYCIA PACKAGED ARGUMENT...: exit code in $code
  export LYCIA_PROGRAM=$1 PACKAGED=$2
  shift 2
  code=0
  "$root/launch/package" "$@" >messages 2>&1 || code=$?
}

pack gpu "kernels_test gpu_bench" "$work/with"
expect "with CUDA" "$code" 0
for file in lycia tests/kernels_test bench/gpu_bench bench/gpu/{run,parts.sh,check_training.sh,torch_peers.py} bench/peers/{gpt2,llama}_torch.py launch/configs/{quickstart,llama_1b}.toml \
  docs/gpu.md LICENSE; do
  expect "$file is there" "$([[ -s with/$file ]] && echo yes || echo no)" yes
done
expect "programs are programs" "$([[ -x with/lycia && -x with/bench/gpu/run ]] && echo yes)" yes
contains "what must be there" "libnccl.so.2: lycia, tests/kernels_test" with/README.txt
contains "what that wants itself" "want themselves: libother.so.1" with/README.txt
contains "the C library's version" "glibc 2." with/README.txt
contains "README.txt is printed" "This machine must have" messages
expect "no CUDA said where there is" "$(grep -c 'WITHOUT CUDA' with/README.txt || true)" 0

pack gpu "gpu_bench" "$work/with"
expect "an earlier package is replaced" "$code $([[ -e with/tests/kernels_test ]] && echo old)" "0 "

pack sums "" "$work/without"
expect "without CUDA" "$code" 0
contains "says so" "WITHOUT CUDA" without/README.txt
expect "no GPU programs" "$(ls without/tests)" ""
expect "no GPU bench advised" "$(grep -c 'bench/gpu/run' without/README.txt || true)" 0

pack shared "" "$work/shared_one"
expect "a shared library that is not CUDA's" "$code" 1
contains "is named" "lycia wants libabsl_strings.so.20220623" messages
pack sums "" "$work/shared_one"
expect "and another try is possible" "$code" 0

pack gpu "gpu_bench" "$work/copied" --with-libraries
if [[ $code -eq 0 ]]; then
  expect "the library was copied" "$([[ -s copied/lib/libnccl.so.2 ]] && echo yes)" yes
else
  contains "or is missing, with the remedy" "leave --with-libraries out" messages
fi

refused() { # refused WORDS ARGUMENT...
  local words=$1
  shift
  rm -f bazel.log
  pack plain "" "$@"
  expect "$words" "$code $(wc -l <messages) $([[ -e bazel.log ]] && echo built)" "2 1 "
}
mkdir mine
touch mine/thesis.txt
refused "no folder"
refused "two folders" "$work/a" "$work/b"
refused "an unknown option" --static "$work/a"
refused "a folder with other things" "$work/mine"
refused "a file" "$work/mine/thesis.txt"
expect "other things are kept" "$(ls mine)" "thesis.txt"

sed -i 's/^  build)/  build) exit 1/' bazel
pack plain "" "$work/broken"
expect "a build that fails" "$code $([[ -e broken ]] && echo made)" "1 "

echo "package_test: $failures failures"
[[ $failures -eq 0 ]]
