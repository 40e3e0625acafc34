#!/usr/bin/env bash
# Installs what building and testing weft needs from Debian, if it isn't there: compilers for the datapath and
# runc, the tools that nodes have, the emulator for other kernels. Needs root; does nothing the second time.
set -euo pipefail
packages=(
  clang-16 llvm-16 clang-format-16 libbpf-dev   # datapath
  gcc libc6-dev libseccomp-dev pkg-config       # runc
  iproute2 nftables iptables ipset conntrack kmod procps iputils-ping ca-certificates # nodes
  awscli jq yq git make openssl                 # people's side
  curl python3 tcpdump cpio                     # what walkthroughs and tests look with
  qemu-system-x86 bpftool                       # other kernels
)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if ! command -v go >/dev/null; then
  echo "deps: found no go command; install Go 1.26 or later from https://go.dev/dl and put it on PATH" >&2
  exit 1
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "deps: these Debian packages are missing: ${missing[*]}; run as root, or install them first" >&2
  exit 1
fi
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
