#!/usr/bin/env bash
# Builds an image for kind's nodes on the Docker daemon at hand; nothing is pulled.
#   build.sh IMAGE PROGRAMS TOOLS KIND KUBERNETES SCRATCH
# PROGRAMS has Kubernetes' programs and etcd, TOOLS has coredns and crictl, KIND and KUBERNETES are the sources of these modules,
# SCRATCH is an empty folder.
set -euo pipefail
image=$1 programs=$2 tools=$3 kind=$4 kubernetes=$5 scratch=$6
here=$(cd "$(dirname "$0")" && pwd)
version=$("$programs/kubeadm" version -o short)

# A plain Debian with what kind's base image has, but for network disks. Of Debian 12 also on a newer machine: its systemd runs
# with both versions of control groups.
sources=/etc/apt/sources.list.d/debian.sources
[ -e $sources ] || sources=/etc/apt/sources.list
sed 's/\btrixie\b/bookworm/g' $sources > "$scratch/${sources##*/}"
mmdebstrap --quiet --variant=minbase --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --include=systemd-sysv,containerd,runc,containernetworking-plugins,conntrack,iptables,nftables,iproute2 \
  --include=ethtool,mount,kmod,libseccomp2,e2fsprogs,ca-certificates,jq,procps,curl \
  bookworm - "$scratch/${sources##*/}" | docker import - canopy/debian

# The images that kubeadm's manifests name. Those of Kubernetes' own programs are one image under several names, with what
# kube-proxy calls: the manifests name the program, too.
cc -static -Os -o "$scratch/pause" "$kubernetes/build/pause/linux/pause.c"
names=$("$programs/kubeadm" config images list --kubernetes-version "$version")
own=$(cd "$programs" && ls -d kube-apiserver kube-controller-manager kube-proxy kube-scheduler)
[ ! -e "$programs/kubernetes" ] || own="kubernetes $own"
# shellcheck disable=SC2016 # for the shell in the container
docker run --rm --network none --volume "$programs:/usr/local/bin:ro" --env own="$own" canopy/debian \
  sh -c 'cd /usr/sbin && multi=$(ls iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore) &&
    extensions=/usr/lib/x86_64-linux-gnu/xtables &&
    libraries=$(ldd xtables-nft-multi $extensions/*.so | grep -o "/[^ :]*" | grep -v /xtables/ | sort -u | cut -c2-) &&
    tar -C / -cf /tmp/own.tar $(for name in $own; do echo usr/local/bin/$name; done) &&
    tar -C / -rhf /tmp/own.tar $(for name in $multi; do echo usr/sbin/$name; done) ${extensions#/} $libraries &&
    cat /tmp/own.tar' | docker import --change 'ENV PATH=/usr/local/bin:/usr/sbin' - canopy/kubernetes
for name in $names; do
  program=${name##*/} program=${program%%:*}
  case $program in
    kube-*) docker tag canopy/kubernetes "$name" && continue ;;
    pause) from=$scratch ;;
    etcd) from=$programs ;;
    *) from=$tools ;;
  esac
  tar -C "$from" --transform 's,^,usr/local/bin/,' -c "$program" |
    docker import --change "ENTRYPOINT [\"/usr/local/bin/$program\"]" --change 'ENV PATH=/usr/local/bin' - "$name"
done
# shellcheck disable=SC2086 # one word a name
docker save --output "$scratch/images.tar" $names

# systemd ends at a signal of its own.
docker rm --force canopy-node 2>/dev/null || true
docker run --name canopy-node --network none --stop-signal SIGRTMIN+3 --env container=docker \
  --volume "$kind/images/base/files:/build/kind:ro" --volume "$here/files:/build/node:ro" \
  --volume "$programs:/build/programs:ro" --volume "$tools:/build/tools:ro" --volume "$scratch:/build/scratch:ro" \
  canopy/debian sh /build/node/setup.sh "$version" "$(echo "$names" | grep /pause:)"
docker commit --change 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' canopy-node "$image"
docker rm --force canopy-node
# shellcheck disable=SC2086
docker rmi $names canopy/kubernetes canopy/debian
