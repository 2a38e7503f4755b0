#!/usr/bin/env bash
# launch/mpirun.sh: exit codes, restarts, signals and refusals, with a stand-in for mpirun that runs one rank.
set -euo pipefail
root=$(dirname "$(realpath WORKSPACE)")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >mpirun <<'STUB'
#!/usr/bin/env bash
if [[ $1 == --version ]]; then echo "mpirun (Open MPI) 4.1.4"; exit 0; fi
echo "$*" >>mpirun.log
while [[ $1 != */program ]]; do shift; done
exec "$@"
STUB

# program train MODE...: logs each life; `exit=N` ends with N, `crash=K` with 137 in the first K lives, `wait` until USR1 (85).
cat >program <<'STUB'
#!/usr/bin/env bash
echo "$*" >>program.log
lives=$(wc -l <program.log)
trap 'exit 85' USR1
case $2 in
  exit=*) exit "${2#exit=}" ;;
  crash=*) [[ $lives -gt ${2#crash=} ]] || exit 137 ;;
  wait) touch waiting; for _ in {1..100}; do sleep 0.1; done ;;
esac
STUB
chmod +x mpirun program

failures=0
expect() { # expect WORDS ACTUAL EXPECTED
  if [[ $2 != "$3" ]]; then
    echo "FAILED: $1: got '$2', expected '$3'"
    failures=$((failures + 1))
  fi
}
start() { # start ARGUMENT...: exit code in $code, lives of the program in $lives
  rm -f ./*.log waiting
  code=0
  "$root/launch/mpirun.sh" --mpirun="$work/mpirun" -n 4 "$@" 2>messages || code=$?
  lives=$(cat program.log 2>/dev/null | wc -l)
}

for wanted in 0 2 85; do
  start --restarts=3 ./program train exit=$wanted
  expect "exit code passed on" "$code" "$wanted"
  expect "no restart after exit code $wanted" "$lives" 1
done

start ./program train exit=7
expect "no restart unless asked for" "$code $lives" "7 1"

start --restarts=3 ./program train crash=2
expect "two crashes, then success" "$code $lives" "0 3"
expect "first life" "$(sed -n 1p program.log)" "train crash=2"
expect "restarts resume, said once" "$(sed -n 3p program.log)" "train crash=2 --resume"

start --restarts=1 ./program train crash=9
expect "gives up" "$code $lives" "137 2"

for signal in TERM USR1; do
  rm -f ./*.log waiting
  "$root/launch/mpirun.sh" --mpirun="$work/mpirun" -n 4 --restarts=3 ./program train wait 2>messages &
  script=$!
  for _ in {1..100}; do [[ -e waiting ]] && break; sleep 0.1; done
  kill -"$signal" $script
  code=0
  wait $script || code=$?
  expect "SIG$signal becomes USR1, no restart" "$code $(wc -l <program.log)" "85 1"
done

# An mpirun that hangs after its ranks have ended (a program that ends while mpirun does not) is ended too, and the run starts again.
cat >hanging <<'STUB'
#!/usr/bin/env bash
if [[ $1 == --version ]]; then echo "mpirun (Open MPI) 4.1.4"; exit 0; fi
echo life >>program.log
[[ $(wc -l <program.log) -eq 1 ]] || exit 0
bash -c 'sleep 2' &
exec sleep 100
STUB
chmod +x hanging
rm -f ./*.log
code=0
"$root/launch/mpirun.sh" --mpirun="$work/hanging" -n 4 --grace=0 --restarts=1 ./program train 2>messages || code=$?
expect "mpirun that outlives its ranks" "$code $(wc -l <program.log) $(grep -c 'outlived its ranks' messages)" "0 2 1"

command=$("$root/launch/mpirun.sh" --mpirun="$work/mpirun" --dry-run -n 4 --grace=7 -x COLOR=blue --mca a b ./program train)
for words in "-n 4" "--mca odls_base_sigkill_timeout 7" "--oversubscribe" "-x COLOR=blue" "-x OPENBLAS_NUM_THREADS" "--mca a b ./program train"; do
  [[ $command == *"$words"* ]] || expect "dry run" "$command" "... $words ..."
done
if [[ $(id -u) -eq 0 ]]; then root_flag=yes; else root_flag=no; fi
expect "--allow-run-as-root only for root" "$([[ $command == *--allow-run-as-root* ]] && echo yes || echo no)" "$root_flag"

refused() { # refused WORDS ARGUMENT...
  local words=$1
  shift
  code=0
  "$root/launch/mpirun.sh" --mpirun="$work/mpirun" "$@" >/dev/null 2>messages || code=$?
  expect "$words" "$code $(wc -l <messages)" "2 1"
}
refused "no rank count" ./program train
refused "zero ranks" -n 0 ./program train
refused "no program" -n 4
refused "program not there" -n 4 ./programme train
refused "unknown option" -n 4 --restart=1 ./program train
refused "host file not there" -n 4 --hostfile=none ./program train

echo "mpirun_test: $failures failures"
[[ $failures -eq 0 ]]
