# shellcheck shell=bash
# Taking the machine's cluster down, also one that crashed, was half started, or
# belongs to a checkout that is gone: RUN tells what there is.

# In the order in which they end: who would start something goes first.
PARTS=(kubelet kube-proxy network-policies coredns kube-scheduler kube-controller-manager containerd kube-apiserver etcd rabbitmq epmd)

# owner_state prints the state folder of the machine's cluster, if there is one.
owner_state() { sed -n 1p "$RUN/owner" 2>/dev/null || true; }

# own_cluster records that the machine's cluster is this checkout's.
# shellcheck disable=SC2153 # STATE is set in common.sh
own_cluster() { printf '%s\n%s\n' "$STATE" "$(boot_id)" >"$RUN/owner"; }

same_boot() { [ "$(sed -n 2p "$RUN/owner" 2>/dev/null)" = "$(boot_id)" ]; }

# teardown stops what RUN names and removes what it left in the system. A step
# that fails must not keep the others from being done.
teardown() {
    local state part -
    set +eE
    state=$(owner_state)
    if same_boot; then
        # By force: no data is needed any more, or a crash has already happened.
        for part in "${PARTS[@]}"; do
            stop_part "$part" 0
        done
    fi
    end_containers
    unmount_below "$RUN"
    unmount_below "$state"
    remove_network
    remove_cgroups
    remove_leftovers "$state"
}

# end_containers ends the containers' processes and the shims of our containerd.
# They are known by their control group, and by the socket they report to.
end_containers() {
    local pid sockets socket try
    # Read first: containerd forgets a shim, but not its socket, when it ends.
    sockets=$(cat "$RUN"/containerd/io.containerd.runtime.v2.task/k8s.io/*/address 2>/dev/null | sed 's#unix://#\n#g' || true)
    for try in 1 2 3; do
        for pid in $(container_pids) $(shim_pids); do
            kill -KILL "$pid" 2>/dev/null || true
        done
        if try_for 2 no_containers; then break; fi
    done
    while read -r socket; do
        rm -f "$socket"
    done <<<"$sockets"
    rmdir /run/containerd/s /run/containerd 2>/dev/null || true
}

container_pids() {
    find /sys/fs/cgroup/focus /sys/fs/cgroup/*/focus -name cgroup.procs -exec cat {} + 2>/dev/null |
        sort -un || true
}

shim_pids() {
    local pid
    for pid in $(pidof containerd-shim-runc-v2 || true); do
        if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "-address $RUN/containerd.sock"; then echo "$pid"; fi
    done
}

no_containers() { [ -z "$(container_pids)$(shim_pids)" ]; }

# unmount_below FOLDER unmounts everything below it, the deepest first.
unmount_below() {
    local target try
    [ -n "$1" ] || return 0
    for try in 1 2 3; do
        mounts_below "$1" | sort -r | while read -r target; do
            umount "$target" 2>/dev/null || umount -l "$target" 2>/dev/null || true
        done
        if [ -z "$(mounts_below "$1")" ]; then return; fi
    done
    say "something is still mounted below $1 after $try tries"
}

mounts_below() {
    awk -v below="$1/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo
}

remove_cgroups() {
    find /sys/fs/cgroup/focus /sys/fs/cgroup/*/focus -depth -type d -exec rmdir {} + 2>/dev/null || true
}

# The kubelet has a few places of its own that no setting moves.
remove_leftovers() {
    if [ -n "$1" ]; then
        find /var/log/containers /var/log/pods -maxdepth 1 -lname "$1/*" -delete 2>/dev/null || true
    fi
    if [ ! -e /var/lib/kubelet/config.yaml ]; then rm -f /var/lib/kubelet/device-plugins/kubelet.sock; fi
    rmdir /var/log/containers /var/lib/kubelet/device-plugins /var/lib/kubelet 2>/dev/null || true
    rm -rf "$RUN"
}

# remove_data removes this checkout's cluster, but for logs and images.
remove_data() {
    if [ -n "$(mounts_below "$STATE")" ]; then
        fail "$STATE still has mounts below it, so its data stays: see 'mount', unmount them, and run this again"
    fi
    rm -rf "${STATE:?}"/{etcd,containerd,kubelet,pod-logs,broker,pki,kubeconfigs,config,cni,bin,pids} \
        "${STATE:?}"/{kubeconfig,broker-url,broker-url-pods,broker-url-tls,broker-ca.crt}
}
