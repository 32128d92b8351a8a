# shellcheck shell=bash
# The pods' network: one bridge, whose address is the node's, the broker's and
# the name server's for pods.

BRIDGE=focus0
POD_NETWORK=10.244.0.0/24
# Settings that the cluster's programs change; their old values come back.
SYSCTLS="net/ipv4/ip_forward net/bridge/bridge-nf-call-iptables vm/overcommit_memory kernel/panic kernel/panic_on_oops"

make_network() {
    remember_sysctls
    modprobe -q -a br_netfilter overlay 2>/dev/null || true
    if ! ip link show "$BRIDGE" >/dev/null 2>&1; then
        ip link add "$BRIDGE" address 0a:58:0a:f4:00:01 type bridge
    fi
    ip addr replace "$NODE_ADDRESS/24" dev "$BRIDGE"
    ip link set "$BRIDGE" up
    set_sysctl net/ipv4/ip_forward 1
    set_sysctl net/bridge/bridge-nf-call-iptables 1
    write_cni_config
}

set_sysctl() {
    if [ -e "/proc/sys/$1" ] && [ "$(cat "/proc/sys/$1")" != "$2" ]; then echo "$2" >"/proc/sys/$1"; fi
}

remember_sysctls() {
    local name
    if [ -e "$RUN/sysctls" ]; then return; fi
    for name in $SYSCTLS; do
        if [ -e "/proc/sys/$name" ]; then echo "$name $(cat "/proc/sys/$name")"; fi
    done >"$RUN/sysctls"
}

restore_sysctls() {
    local name value
    if [ ! -e "$RUN/sysctls" ]; then return; fi
    while read -r name value; do
        set_sysctl "$name" "$value" || true
    done <"$RUN/sysctls"
}

# No masquerading and no port mapping: no pod needs them here, and each would be
# one more program to run for each pod's start.
write_cni_config() {
    mkdir -p "$STATE/cni"
    cat >"$STATE/cni/10-focus.conflist" <<JSON
{
  "cniVersion": "1.0.0",
  "name": "focus",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "$BRIDGE",
      "isGateway": true,
      "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "$RUN/cni",
        "ranges": [[{"subnet": "$POD_NETWORK", "gateway": "$NODE_ADDRESS"}]],
        "routes": [{"dst": "0.0.0.0/0"}]
      }
    }
  ]
}
JSON
}

remove_network() {
    local link
    if ip link show "$BRIDGE" >/dev/null 2>&1; then
        for link in $(ip -o link show master "$BRIDGE" | sed -E 's/^[0-9]+: ([^@:]+).*/\1/'); do
            ip link delete "$link" 2>/dev/null || true
        done
        ip link delete "$BRIDGE" 2>/dev/null || true
    fi
    # The CNI library keeps a note of each network that it joined a pod to.
    grep -lsF "$RUN/" /var/lib/cni/results/* | xargs -r rm -f || true
    rmdir --ignore-fail-on-non-empty /var/lib/cni/results /var/lib/cni 2>/dev/null || true
    remove_rules iptables
    remove_rules ip6tables
    restore_sysctls
}

# remove_rules removes the chains of kube-proxy, kubelet and CNI with all rules
# that name them, and leaves every other rule as it is.
remove_rules() {
    local table rules
    command -v "$1-save" >/dev/null || return 0
    for table in nat filter mangle raw; do
        rules=$("$1-save" -t "$table" 2>/dev/null) || continue
        if grep -qE '^:(KUBE|CNI)-' <<<"$rules"; then
            grep -vE '^:(KUBE|CNI)-|^-A (KUBE|CNI)-|-[jg] (KUBE|CNI)-' <<<"$rules" | "$1-restore" -T "$table" 2>/dev/null ||
                say "could not remove the cluster's rules from the table $table of $1"
        fi
    done
}
