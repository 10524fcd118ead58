#!/usr/bin/env bash
# Builds an image for kind's nodes on the Docker daemon at hand; nothing is pulled.
#   node-image.sh IMAGE PROGRAMS KIND KUBERNETES SCRATCH
# PROGRAMS has Kubernetes' programs, KIND and KUBERNETES are the sources of these modules, SCRATCH is an empty folder.
set -euo pipefail
image=$1 programs=$2 kind=$3 kubernetes=$4 scratch=$5
here=$(cd "$(dirname "$0")" && pwd)
version=$("$programs/kubeadm" version -o short)

# A plain Debian with what kind's base image has, but for network disks.
sources=/etc/apt/sources.list.d/debian.sources
[ -e $sources ] || sources=/etc/apt/sources.list
# A newer machine has the sources of its own release. The node stays on this one: its systemd runs with cgroup v1 and v2.
sed 's/\<trixie\>/bookworm/g' "$sources" > "$scratch/${sources##*/}"
mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=systemd-sysv,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,iproute2 \
  --include=ethtool,mount,kmod,libseccomp2,e2fsprogs,ca-certificates,jq,procps,curl \
  bookworm - "$scratch/${sources##*/}" | docker import - canopy/debian

# The images that kubeadm's manifests name: a program each, and for kube-proxy what it calls.
cc -static -Os -o "$scratch/pause" "$kubernetes/build/pause/linux/pause.c"
names=$("$programs/kubeadm" config images list --kubernetes-version "$version")
for name in $names; do
  program=${name##*/} program=${program%%:*}
  case $program in
    pause) tar -C "$scratch" --transform 's,^,usr/local/bin/,' -c pause ;;
    kube-proxy)
      # shellcheck disable=SC2016 # for the shell in the container
      docker run --rm --network none --volume "$programs:/usr/local/bin:ro" canopy/debian \
        sh -c 'cd /usr/sbin && multi=$(ls iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore) &&
          extensions=/usr/lib/x86_64-linux-gnu/xtables &&
          libraries=$(ldd xtables-nft-multi $extensions/*.so | grep -o "/[^ :]*" | grep -v /xtables/ | sort -u | cut -c2-) &&
          tar -C / -ch usr/local/bin/kube-proxy $(for name in $multi; do echo usr/sbin/$name; done) ${extensions#/} $libraries'
      ;;
    *) tar -C "$programs" --transform 's,^,usr/local/bin/,' -c "$program" ;;
  esac | docker import --change "ENTRYPOINT [\"/usr/local/bin/$program\"]" \
    --change 'ENV PATH=/usr/local/bin:/usr/sbin' - "$name"
done
# shellcheck disable=SC2086 # one word a name
docker save --output "$scratch/images.tar" $names

# systemd ends at a signal of its own.
docker rm --force canopy-node 2>/dev/null || true
docker run --name canopy-node --network none --stop-signal SIGRTMIN+3 --env container=docker \
  --volume "$kind/images/base/files:/build/kind:ro" --volume "$here/node:/build/node:ro" \
  --volume "$programs:/build/programs:ro" --volume "$scratch:/build/scratch:ro" \
  canopy/debian sh /build/node/setup.sh "$version" "$(echo "$names" | grep /pause:)"
docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' canopy-node "$image"
docker rm --force canopy-node
# shellcheck disable=SC2086
docker rmi $names canopy/debian
