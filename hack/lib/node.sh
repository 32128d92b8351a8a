# shellcheck shell=bash
# containerd, the kubelet, kube-proxy and the name server.

CONTAINERD=$RUN/containerd.sock
CONTAINERD_STATE=$RUN/containerd
PAUSE_IMAGE=focus-operator.io/pause:1
# CGROUP is the parent of all containers' control groups: what runs below it is ours.
CGROUP=focus

ctr_k8s() { ctr --address "$CONTAINERD" --namespace k8s.io "$@"; }

# overlayfs cannot lie on overlayfs, which is what / is inside many sandboxes.
snapshotter() {
    if [ "$(stat -f -c %T "$STATE")" = overlayfs ]; then echo native; else echo overlayfs; fi
}

start_containerd() {
    mkdir -p "$STATE/containerd"
    # restrict_oom_score_adj: without the right to lower it, no sandbox starts.
    cat >"$STATE/config/containerd.toml" <<TOML
version = 2
root = "$STATE/containerd"
state = "$CONTAINERD_STATE"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
address = "$CONTAINERD"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$PAUSE_IMAGE"
restrict_oom_score_adj = true
disable_apparmor = true
tolerate_missing_hugetlb_controller = true
disable_hugetlb_controller = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$STATE/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "$(snapshotter)"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "$RUN/runc"
TOML
    start_part containerd containerd --config "$STATE/config/containerd.toml"
}

# load_pause gives containerd the image of every pod's first container.
load_pause() {
    if [ -n "$(ctr_k8s images list -q "name==$PAUSE_IMAGE")" ]; then return; fi
    mkdir -p "$STATE/images"
    "$(build_image_tool)" -name "$PAUSE_IMAGE" -out "$STATE/images/pause.tar" -entrypoint /pause \
        -user 65535:65535 "$(build_pause):/pause:0755"
    ctr_k8s images import "$STATE/images/pause.tar" >/dev/null
}

make_cgroups() {
    local folder
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir -p "/sys/fs/cgroup/$CGROUP"
        return
    fi
    for folder in /sys/fs/cgroup/*/; do
        if [ ! -L "${folder%/}" ] && [ -e "$folder/cgroup.procs" ]; then mkdir -p "$folder$CGROUP"; fi
    done
    if [ -e "/sys/fs/cgroup/cpuset/$CGROUP" ]; then
        cat /sys/fs/cgroup/cpuset/cpuset.cpus >"/sys/fs/cgroup/cpuset/$CGROUP/cpuset.cpus"
        cat /sys/fs/cgroup/cpuset/cpuset.mems >"/sys/fs/cgroup/cpuset/$CGROUP/cpuset.mems"
    fi
}

# Images come from no registry, so the kubelet must never collect them: its
# image thresholds are at 100 %, and its disk eviction only at the very end.
start_kubelet() {
    make_cgroups
    echo "nameserver $NODE_ADDRESS" >"$STATE/config/resolv.conf"
    cat >"$STATE/config/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_ADDRESS
healthzBindAddress: 127.0.0.1
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix://$CONTAINERD
cgroupDriver: cgroupfs
cgroupRoot: /$CGROUP
enforceNodeAllocatable: []
localStorageCapacityIsolation: false
failSwapOn: false
oomScoreAdj: 0
clusterDomain: cluster.local
clusterDNS: [$NODE_ADDRESS]
resolvConf: $STATE/config/resolv.conf
podLogsDir: $STATE/pod-logs
volumePluginDir: $VOLUME_PLUGINS
maxPods: 240
serializeImagePulls: false
registryPullQPS: 0
kubeAPIQPS: 200
kubeAPIBurst: 400
eventRecordQPS: 100
eventBurst: 200
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}
YAML
    start_part kubelet "$BIN/kubelet" --config "$STATE/config/kubelet.yaml" --root-dir "$STATE/kubelet" \
        --kubeconfig "$STATE/kubeconfigs/kubelet" --hostname-override "$NODE" --node-ip "$NODE_ADDRESS"
}

start_kube_proxy() {
    cat >"$STATE/config/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clusterCIDR: $POD_NETWORK
hostnameOverride: $NODE
clientConnection: {kubeconfig: "$STATE/kubeconfigs/kube-proxy"}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
iptables: {localhostNodePorts: false, minSyncPeriod: 200ms}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
    start_part kube-proxy "$BIN/kube-proxy" --config "$STATE/config/kube-proxy.yaml"
}

# The name server listens on the bridge; pods ask it there, without a Service.
# It knows the cluster's names only: there is no upstream.
start_coredns() {
    cat >"$STATE/config/Corefile" <<COREFILE
.:53 {
    bind $NODE_ADDRESS
    errors
    log . {
        class error
    }
    health 127.0.0.1:18080
    ready 127.0.0.1:18181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $STATE/kubeconfigs/coredns focus
        pods insecure
    }
}
COREFILE
    start_part coredns "$BIN/coredns" -conf "$STATE/config/Corefile"
}

containerd_healthy() { ctr_k8s version; }

kubelet_healthy() { curl -fsS -m 2 http://127.0.0.1:10248/healthz; }

kube_proxy_healthy() { curl -fsS -m 2 http://127.0.0.1:10256/livez; }

coredns_healthy() { curl -fsS -m 2 http://127.0.0.1:18181/ready; }
