#!/usr/bin/env bash
# tests/chroot/run_chroot.sh [OPTION...]: proves ./launch/quickstart on a machine that has nothing: a minimal Debian 12, made with debootstrap in a
# temporary folder from the package sources and proxy settings of this machine, with a clone of this repository.
#
#   --tests           runs ./tests/run there too
#   --tests-only      runs ./tests/run, without the quickstart
#   --user            as an ordinary user with sudo (default: as root)
#   --worktree        takes the files of the working tree instead of a clone of HEAD
#   --keep            keeps the folder and prints its name
#   --folder=DIR      where to make it (default: below $TMPDIR or /tmp); about 5 GB
#   -- ARGUMENT...    for launch/quickstart
#
# Needs root and the package debootstrap.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() { echo "run_chroot: $*"; }
[[ $(id -u) -eq 0 ]] || { say "SKIPPED: needs root"; exit 0; }
export PATH=$PATH:/usr/sbin:/sbin
command -v debootstrap >/dev/null || { say "SKIPPED: no debootstrap; apt-get install debootstrap"; exit 0; }

suite=bookworm
tests='' quickstart=yes user=root worktree='' keep='' folder=${TMPDIR:-/tmp}
while [[ $# -gt 0 ]]; do
  case $1 in
    --tests) tests=yes ;;
    --tests-only) tests=yes quickstart='' ;;
    --user) user=lycia ;;
    --worktree) worktree=yes ;;
    --keep) keep=yes ;;
    --folder=*) folder=${1#*=} ;;
    --) shift; break ;;
    *) say "unknown option '$1'"; exit 2 ;;
  esac
  shift
done

machine=$(mktemp -d "$folder/lycia_chroot.XXXXXX")
chmod 755 "$machine" # its / is for everybody
cleanup() {
  if [[ -n $keep ]]; then say "kept: $machine"; else rm -rf --one-file-system "$machine"; fi
}
trap cleanup EXIT

# The sources that this machine uses for the suite: "URI SUITE COMPONENT" a line.
# shellcheck disable=SC2016  # apt-get expands them
sources=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | grep -E " $suite(-[a-z]+)? " | sort -u || true)
mirror=$(awk -v suite="$suite" '$2 == suite && $3 == "main" { print $1; exit }' <<<"$sources")
mirror=${mirror:-http://deb.debian.org/debian}
proxy=$(apt-config dump Acquire::http::Proxy | sed -n 's/.*"\(.*\)";/\1/p' | head -n 1)
proxy=${proxy:-${http_proxy:-}}

started=$SECONDS
say "debootstrap of $suite into $machine"
http_proxy=$proxy debootstrap --variant=minbase --include=ca-certificates "$suite" "$machine" "$mirror" >"$machine.log" 2>&1 || {
  tail -n 20 "$machine.log"
  exit 1
}
rm -f "$machine.log"
awk -v keyring=/usr/share/keyrings/debian-archive-keyring.gpg '{ print "deb [signed-by=" keyring "]", $1, $2, $3 }' <<<"$sources" \
  >"$machine/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(http|https|ftp|Retries|Check-Valid-Until)' >"$machine/etc/apt/apt.conf.d/99host" || true
cp -L /etc/resolv.conf /etc/hosts "$machine/etc/"
say "minimal system ready, $(du -sm --one-file-system "$machine" | cut -f1) MB, $((SECONDS - started)) s"

home=/root
if [[ $user != root ]]; then
  home=/home/$user
  chroot "$machine" bash -c "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends sudo" >/dev/null
  chroot "$machine" useradd --create-home --shell /bin/bash "$user"
  echo "$user ALL=(ALL) NOPASSWD: ALL" >"$machine/etc/sudoers.d/$user"
fi
if [[ -n $worktree ]]; then
  mkdir "$machine$home/lycia"
  git -C "$root" ls-files -z --cached --others --exclude-standard | tar -C "$root" --null --files-from=- --ignore-failed-read -cf - | tar -C "$machine$home/lycia" -xf -
else
  git clone -q --no-hardlinks "$root" "$machine$home/lycia"
fi
chroot "$machine" chown -R "$user" "$home/lycia"

# inside COMMAND...: runs it in the clone, on the machine, with mounts that end with it.
inside() {
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --pid --fork --kill-child bash -euc '
    machine=$1 user=$2 home=$3
    shift 3
    mount --make-rprivate /
    mount -t proc proc "$machine/proc"
    mount --rbind /sys "$machine/sys"
    mount --rbind /dev "$machine/dev"
    mount -t tmpfs -o mode=1777 tmpfs "$machine/dev/shm"
    exec chroot "$machine" su --login "$user" -c "cd $home/lycia && exec $*"' inside "$machine" "$user" "$home" "$@"
}

if [[ -n $quickstart ]]; then
  started=$SECONDS
  inside ./launch/quickstart "${@@Q}"
  say "quickstart passed as $user, $((SECONDS - started)) s from nothing"
  started=$SECONDS
  inside ./launch/setup | grep . && { say "FAILED: launch/setup has something to do a second time"; exit 1; }
  say "launch/setup finds nothing more to do, $((SECONDS - started)) s"
fi
if [[ -n $tests ]]; then
  started=$SECONDS
  inside ./tests/run
  say "tests passed as $user, $((SECONDS - started)) s"
fi
say "PASSED"
