#!/bin/sh
# Makes a node of a plain Debian. Runs in a container with these folders; what it leaves outside them is the image.
#   /build/kind      kind's own files for nodes        /build/node      this folder
#   /build/programs  Kubernetes' programs            /build/scratch   images.tar
#   /build/tools     crictl
set -eu
version=$1 pause=$2

# kind's own files, and what its base image does with them.
cp -r --no-preserve=mode,ownership /build/kind/. /
chmod 755 /kind /kind/bin /kind/bin/* /usr/local/bin/*
rm -f /lib/systemd/system/multi-user.target.wants/* /lib/systemd/system/local-fs.target.wants/* \
  /lib/systemd/system/basic.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* \
  /lib/systemd/system/sockets.target.wants/*initctl* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service
echo ReadKMsg=no >> /etc/systemd/journald.conf
systemctl mask systemd-binfmt.service
mkdir -p /etc/kubernetes/manifests /etc/cni/net.d /opt/cni/bin /kind/manifests
for program in containerd ctr containerd-shim-runc-v2; do ln -s /usr/bin/$program /usr/local/bin/; done
ctr oci spec | jq '.hooks.createContainer = [{path: "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
  > /etc/containerd/cri-base.json
# A machine without CAP_SYS_RESOURCE may not lower what the kernel ends last.
sed -i -e 's/\(restrict_oom_score_adj = \)false/\1true/' -e "s|\(sandbox_image = \).*|\1\"$pause\"|" \
  /etc/containerd/config.toml

# Kubernetes, and the pod network.
cd /build/programs
# The first is there where the others are links to it.
cp --no-dereference --no-preserve=ownership $(ls -d kubernetes kubelet kubeadm kubectl 2>/dev/null) /usr/bin/
cd /
install /build/tools/crictl /build/node/node-routes /usr/local/bin/
install -m 644 /build/node/node-routes.service /etc/systemd/system/
install -m 644 /build/node/default-cni.yaml /kind/manifests/
install /usr/lib/cni/host-local /usr/lib/cni/loopback /usr/lib/cni/portmap /usr/lib/cni/ptp /opt/cni/bin/
systemctl enable containerd.service kubelet.service undo-mount-hacks.service node-routes.service
printf %s "$version" > /kind/version

# The images of the control plane, packed: a node unpacks each when it first starts it.
cat > /tmp/containerd.toml <<END
version = 2
state = "/tmp/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/tmp/containerd.sock"
END
containerd --config /tmp/containerd.toml --log-level error &
until [ -S /tmp/containerd.sock ]; do sleep 0.1; done
ctr --address /tmp/containerd.sock --namespace k8s.io images import --no-unpack /build/scratch/images.tar
kill $!
wait $! || true
rm -rf /tmp/* /var/log/* /var/cache/*
