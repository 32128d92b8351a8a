# shellcheck shell=bash
# What enforces NetworkPolicies. A kernel that cannot queue packets has none, and the cluster works all the same.

build_network_policies() {
    built network-policies env CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w" -o
}

# can_queue_packets: the kernel takes the rule that the enforcer will make, here in a chain that nothing leads to.
can_queue_packets() {
    local try=(iptables -w -t mangle) taken=no
    "${try[@]}" -N KUBE-TRY-QUEUE 2>/dev/null || return 1
    if "${try[@]}" -A KUBE-TRY-QUEUE -m conntrack --ctstate NEW -j NFQUEUE --queue-num 100 --queue-bypass 2>/dev/null; then
        taken=yes
    fi
    "${try[@]}" -F KUBE-TRY-QUEUE
    "${try[@]}" -X KUBE-TRY-QUEUE
    [ $taken = yes ] && [ -e /proc/net/netfilter/nfnetlink_queue ]
}

start_network_policies() {
    if [ ! -e "$STATE/kubeconfigs/network-policies" ]; then new_user network-policies /CN=network-policies; fi
    kube apply --server-side -f "$HACK/config/network-policies.yaml" >/dev/null
    start_part network-policies "$BIN/network-policies" -kubeconfig "$STATE/kubeconfigs/network-policies" \
        -bridge "$BRIDGE" -ready 127.0.0.1:18182
}

network_policies_healthy() { curl -fsS -m 2 http://127.0.0.1:18182/; }
