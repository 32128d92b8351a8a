# shellcheck shell=bash
# JSON schemas of every Kubernetes release that hack/k8s-schemas/sources lists, and of the definitions of others that
# the chart can make objects of. They come with Go modules and are kept outside the checkout.

build_schemas_tool() {
    built k8s-schemas env CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o
}

# kubernetes_versions prints the releases.
kubernetes_versions() {
    awk '$1 == "k8s.io/kubernetes" { print substr($2, 2) }' "$HACK/k8s-schemas/sources"
}

# make_schemas makes them if they are not there; afterwards $SCHEMAS is their folder.
make_schemas() {
    local tool key made module version files folder source
    tool=$(build_schemas_tool)
    key=$(cat "$HACK"/k8s-schemas/{sources,main.go} | sha256sum | cut -c 1-16)
    SCHEMAS=$CACHE/k8s-schemas/schemas-$key
    if [ -d "$SCHEMAS" ]; then
        touch "$SCHEMAS"
        return
    fi
    made=$(mktemp -d "$CACHE/k8s-schemas/.schemas-XXXXXX")
    while read -r module version files folder; do
        say "the schemas of $module $version (once; kept in $SCHEMAS)"
        # In a module cache of its own, for nothing but this file is wanted of it.
        source=$(GOMODCACHE=$made/modules GOFLAGS=-modcacherw go mod download -json "$module@$version" | jq -r .Dir)
        [ -d "$source" ] || fail "the Go module $module $version could not be fetched"
        # shellcheck disable=SC2086 # a pattern
        (cd "$source" && "$tool" "$made/$folder" "$([[ $files = *.json ]] && echo swagger || echo crd)" $files)
        rm -rf "$made/modules"
    done < <(grep -v '^#' "$HACK/k8s-schemas/sources")
    mv -T "$made" "$SCHEMAS"
}
