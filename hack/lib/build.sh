# shellcheck shell=bash
# Building the cluster's programs, once for each state of their sources: the
# results lie in a cache outside the checkout, so that a fresh clone finds them.

KUBERNETES=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' "$HACK/control-plane/go.mod")

kubernetes_ldflags() {
    local minor=${KUBERNETES#v1.} package flags="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=$KUBERNETES -X $package.gitMajor=1"
        flags+=" -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    done
    printf '%s' "$flags"
}

# built NAME COMMAND… prints the path of the program NAME, made by the command,
# which is given the file to write as its last argument and runs in hack/NAME.
built() {
    local name=$1 key folder made
    shift
    key=$(build_key "$name" "$@")
    folder=$CACHE/$name/$key
    if [ ! -x "$folder/$name" ]; then
        mkdir -p "$CACHE/$name"
        exec {building}>"$CACHE/$name/.lock"
        flock "$building"
        if [ ! -x "$folder/$name" ]; then
            made=$(mktemp -d "$CACHE/$name/.build-XXXXXX")
            build_with_progress "$name" "$made" "$@" {building}>&-
            mv -T "$made" "$folder"
            # What no checkout has asked for in a month goes.
            find "$CACHE/$name" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} +
        fi
        exec {building}>&-
    fi
    touch "$folder"
    printf '%s' "$folder/$name"
}

# build_key NAME COMMAND… names the inputs: version, sources, command, compiler.
build_key() {
    local name=$1 version=""
    shift
    if [ "$name" = control-plane ]; then version=$KUBERNETES-; fi
    {
        cd "$HACK/$name" || exit
        sha256sum ./*
        echo "$*"
        uname -m
        if [ "$1" = cc ]; then cc --version; else go version; fi
    } | sha256sum | { read -r sum _ && printf '%s%s' "$version" "${sum:0:16}"; }
}

build_with_progress() {
    local name=$1 folder=$2 begin=$SECONDS last=$SECONDS pid
    shift 2
    say "building $name (once; the result is kept in $CACHE)" >&2
    (cd "$HACK/$name" && "$@" "$folder/$name" .) >"$folder/log" 2>&1 </dev/null &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - last)) -ge 15 ]; then
            last=$SECONDS
            say "still building $name, $((SECONDS - begin)) s" >&2
        fi
    done
    if ! wait "$pid"; then
        tail -n 20 "$folder/log" >&2
        rm -rf "$folder"
        fail "building $name failed: see the lines above; without Go modules in reach there is no local cluster"
    fi
    rm -f "$folder/log"
    say "built $name in $((SECONDS - begin)) s" >&2
}

build_control_plane() {
    built control-plane env CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace \
        -ldflags "$(kubernetes_ldflags)" -o
}

build_coredns() {
    built coredns env CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags grpcnotrace -ldflags "-s -w" -o
}

build_image_tool() {
    built image env CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o
}

build_dashboards() {
    built dashboards env CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o
}

build_pause() { built pause ./build; }

need_toolchain() {
    if ! command -v go >/dev/null || ! command -v cc >/dev/null; then
        fail "Go or a C compiler is missing: run hack/setup, which says how to get them"
    fi
}

# build_tool NAME prints the path of a program that hack/NAME/go.mod pins, such as helm4.
build_tool() {
    local package
    package=$(awk '$1 == "tool" { print $2; exit }' "$HACK/$1/go.mod")
    [ -n "$package" ] || fail "hack/$1/go.mod names no tool"
    built "$1" ../lib/go-tool "$package"
}
