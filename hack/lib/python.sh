# shellcheck shell=bash
# The Python programs that tests run, in an environment of their own outside the
# checkout, keyed by the list of them.

# python_tools makes the environment if it is not there; afterwards $PYTHON_TOOLS
# is its bin folder.
python_tools() {
    local key venv
    key=$(sha256sum "$HACK/requirements.txt" | cut -c 1-12)
    venv=$CACHE/python-$key
    if [ ! -e "$venv/complete" ]; then
        say "installing the Python programs that tests use (once; kept in $venv)"
        rm -rf "$venv"
        python3 -m venv "$venv" || fail "python3 cannot make an environment: install python3-venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$HACK/requirements.txt" ||
            fail "pip could not install what $HACK/requirements.txt lists: see the lines above"
        touch "$venv/complete"
    fi
    PYTHON_TOOLS=$venv/bin
    export PYTHON_TOOLS
}
