# shellcheck shell=bash
# etcd, the API server, the controller manager and the scheduler. One of each:
# no leader election. Quotas on requests are raised, or a load test would
# measure them.

ETCD=http://127.0.0.1:12379
# Given, or the kubelet and the controller manager make a folder below /usr.
VOLUME_PLUGINS=$STATE/kubelet/volume-plugins

# The API server cannot ask an etcd of this age how far its watches have come.
# Told every two seconds, its caches are fresh enough for lists and watches that
# name no version; untold, those fail after a wait ("Too large resource version").
start_etcd() {
    start_part etcd etcd --name focus --data-dir "$STATE/etcd" --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls "$ETCD" --advertise-client-urls "$ETCD" \
        --listen-peer-urls http://127.0.0.1:12380 --initial-advertise-peer-urls http://127.0.0.1:12380 \
        --initial-cluster focus=http://127.0.0.1:12380 \
        --auto-compaction-mode periodic --auto-compaction-retention 10m --quota-backend-bytes 2147483648 \
        --experimental-watch-progress-notify-interval 2s
}

# All parts share the few cores of one machine: the API server collects its garbage
# less often than by default, as long as it fits into 1 GiB.
start_apiserver() {
    start_part kube-apiserver env GOGC=400 GOMEMLIMIT=1GiB "$BIN/kube-apiserver" \
        --etcd-servers "$ETCD" --bind-address 0.0.0.0 --secure-port 6443 --advertise-address "$NODE_ADDRESS" \
        --service-cluster-ip-range 10.96.0.0/16 --allow-privileged --profiling=false \
        --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
        --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
        --kubelet-client-certificate "$PKI/apiserver-kubelet-client.crt" \
        --kubelet-client-key "$PKI/apiserver-kubelet-client.key" \
        --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
        --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$PKI/service-account.pub" \
        --service-account-signing-key-file "$PKI/service-account.key" \
        --max-requests-inflight 800 --max-mutating-requests-inflight 400
}

start_controller_manager() {
    start_part kube-controller-manager "$BIN/kube-controller-manager" \
        --kubeconfig "$STATE/kubeconfigs/controller-manager" --bind-address 127.0.0.1 --leader-elect=false \
        --use-service-account-credentials --service-account-private-key-file "$PKI/service-account.key" \
        --flex-volume-plugin-dir "$VOLUME_PLUGINS" --root-ca-file "$PKI/ca.crt" --kube-api-qps 500 --kube-api-burst 1000 --profiling=false
}

start_scheduler() {
    cat >"$STATE/config/scheduler.yaml" <<YAML
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: "$STATE/kubeconfigs/scheduler", qps: 500, burst: 1000}
enableProfiling: false
YAML
    start_part kube-scheduler "$BIN/kube-scheduler" --config "$STATE/config/scheduler.yaml" --bind-address 127.0.0.1
}

etcd_healthy() { curl -fsS -m 2 "$ETCD/health" | grep -q '"true"'; }

apiserver_healthy() {
    curl -fsS -m 3 --cacert "$PKI/ca.crt" --cert "$PKI/admin.crt" --key "$PKI/admin.key" "$API_SERVER/readyz"
}

controller_manager_healthy() { curl -fsSk -m 2 https://127.0.0.1:10257/healthz; }

scheduler_healthy() { curl -fsSk -m 2 https://127.0.0.1:10259/healthz; }

kube() { "$BIN/kubectl" --kubeconfig "$STATE/kubeconfigs/admin" "$@"; }
