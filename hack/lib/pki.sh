# shellcheck shell=bash
# The cluster's certificates and kubeconfigs: one authority, elliptic keys.

PKI=$STATE/pki
NODE=focus
NODE_ADDRESS=10.244.0.1
API_SERVER=https://127.0.0.1:6443

make_pki() {
    if [ -e "$PKI/complete" ]; then return; fi
    rm -rf "$PKI"
    (umask 077 && mkdir -p "$PKI" "$STATE/kubeconfigs")
    new_key ca
    openssl req -x509 -new -key "$PKI/ca.key" -days 3650 -subj /CN=focus-local-cluster -out "$PKI/ca.crt" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    new_key service-account
    openssl ec -in "$PKI/service-account.key" -pubout -out "$PKI/service-account.pub" 2>/dev/null
    new_certificate apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:10.96.0.1,IP:127.0.0.1,IP:$NODE_ADDRESS"
    new_certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    new_certificate kubelet "/O=system:nodes/CN=system:node:$NODE" "DNS:$NODE,IP:$NODE_ADDRESS,IP:127.0.0.1"
    new_user admin /O=system:masters/CN=admin
    new_user controller-manager /CN=system:kube-controller-manager
    new_user scheduler /CN=system:kube-scheduler
    new_user kube-proxy /CN=system:kube-proxy
    new_user coredns /CN=coredns
    write_kubeconfig kubelet
    cp "$STATE/kubeconfigs/admin" "$STATE/kubeconfig"
    give_to_caller "$STATE/kubeconfig"
    touch "$PKI/complete"
}

new_key() {
    (umask 077 && openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$PKI/$1.key")
}

# new_certificate NAME SUBJECT [ALTERNATIVE NAMES]
new_certificate() {
    local extensions="extendedKeyUsage=clientAuth,serverAuth"
    if [ -n "${3:-}" ]; then extensions+=$'\n'"subjectAltName=$3"; fi
    new_key "$1"
    openssl req -new -key "$PKI/$1.key" -subj "$2" |
        openssl x509 -req -CA "$PKI/ca.crt" -CAkey "$PKI/ca.key" -set_serial "0x$(openssl rand -hex 8)" \
            -days 3650 -extfile <(printf '%s\n' "$extensions") -out "$PKI/$1.crt" 2>/dev/null
}

new_user() {
    new_certificate "$1" "$2"
    write_kubeconfig "$1"
}

# write_kubeconfig NAME writes the kubeconfig that uses NAME's certificate.
write_kubeconfig() {
    (
        umask 077
        cat >"$STATE/kubeconfigs/$1" <<YAML
apiVersion: v1
kind: Config
current-context: focus
clusters:
  - name: focus
    cluster:
      server: $API_SERVER
      certificate-authority-data: $(base64 -w 0 "$PKI/ca.crt")
users:
  - name: $1
    user:
      client-certificate-data: $(base64 -w 0 "$PKI/$1.crt")
      client-key-data: $(base64 -w 0 "$PKI/$1.key")
contexts:
  - name: focus
    context: {cluster: focus, user: $1}
YAML
    )
}
