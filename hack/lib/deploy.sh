# shellcheck shell=bash
# deploy/: what those who use no Helm apply with kubectl, made of the chart. For hack/chart.

# pool_of prints the AnalyzerPool that the chart's hook would apply, from a render.
pool_of() {
    awk '/^  pool.yaml: \|/ { found = 1; next } !/^    / { found = 0 } found { print substr($0, 5) }'
}

# plain takes out what only Helm's own releases should say.
plain() {
    sed -e '/helm.sh\/chart:/d' -e '/^# Source:/d' -e 's/managed-by: Helm/managed-by: kustomize/'
}

kustomization() {
    printf '# Generated from the chart by make generate-chart; do not edit.\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n'
    printf 'resources:\n'
    printf '  - %s\n' "$@"
}

# make_deploy writes deploy/ below $made: what is the same in both scopes is the base.
make_deploy() {
    local out=$made/deploy scope
    local one=(--no-hooks --set crds.enabled=false)
    mkdir -p "$out"/{crds,base,pool,overlays/{namespaced,cluster-wide}}
    cp "$ROOT"/crds/*.yaml "$out/crds/"
    kustomization $(cd "$ROOT/crds" && echo *.yaml) >"$out/crds/kustomization.yaml"
    for scope in cluster namespaced; do
        render "$helm4" "${one[@]}" --set scope="$scope" | plain >"$made/$scope.yaml"
    done
    documents "$made/cluster.yaml" "$made/namespaced.yaml" common >"$made/base.yaml"
    mv "$made/base.yaml" "$out/base/base.yaml"
    kustomization base.yaml >"$out/base/kustomization.yaml"
    documents "$made/cluster.yaml" "$made/namespaced.yaml" own >"$out/overlays/cluster-wide/operator.yaml"
    documents "$made/namespaced.yaml" "$made/cluster.yaml" own >"$out/overlays/namespaced/operator.yaml"
    for scope in cluster-wide namespaced; do
        kustomization ../../crds ../../base operator.yaml >"$out/overlays/$scope/kustomization.yaml"
    done
    render "$helm4" --show-only templates/pool.yaml | pool_of | plain >"$out/pool/analyzerpool.yaml"
    kustomization analyzerpool.yaml >"$out/pool/kustomization.yaml"
    make_rbac >"$out/rbac.yaml"
}

# The rights alone, for operator and server as processes outside the cluster, as the demo runs them.
make_rbac() {
    echo "# Generated from the chart by make generate-chart; do not edit."
    echo "# The rights of operator and server alone, for jobs in namespace focus-demo."
    namespace focus
    render "$helm4" --no-hooks --set jobNamespace=focus-demo,pool.create=false,pool.serviceAccount.create=false \
        --show-only templates/service-accounts.yaml --show-only templates/lease.yaml --show-only templates/rbac.yaml | plain
}

namespace() {
    printf -- '---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n' "$1"
}

# documents ONE OTHER common|own prints the documents of ONE that OTHER has too, or has not.
documents() {
    awk -v want="$3" '
        function flush() {
            if (document ~ /kind:/) {
                if (reading == 2) { if ((document in other) == (want == "common")) printf "---\n%s", document }
                else other[document] = 1
            }
            document = ""
        }
        FNR == 1 { flush(); reading++ }
        /^---$/ { flush(); next }
        /^$/ { next }
        { document = document $0 "\n" }
        END { flush() }' "$2" "$1"
}
