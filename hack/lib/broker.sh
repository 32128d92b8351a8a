# shellcheck shell=bash
# RabbitMQ: a node of its own, away from one that the machine may run already.

BROKER=$STATE/broker
BROKER_NODE=focus@localhost
BROKER_USER=focus

# broker_env COMMAND… runs the command with this node's settings.
broker_env() {
    env HOME="$BROKER" RABBITMQ_NODENAME="$BROKER_NODE" RABBITMQ_MNESIA_BASE="$BROKER/data" \
        RABBITMQ_LOG_BASE="$LOGS" RABBITMQ_LOGS=- RABBITMQ_CONFIG_FILE="$BROKER/rabbitmq.conf" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$BROKER/enabled_plugins" RABBITMQ_CONF_ENV_FILE="$BROKER/none" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none" \
        ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=14369 "$@"
}

# epmd is started here, or the broker would start one that nobody stops.
start_epmd() { start_part epmd env ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=14369 epmd; }

epmd_healthy() { ERL_EPMD_PORT=14369 epmd -names; }

start_broker() {
    make_broker_config
    try_for 5 epmd_healthy || true
    local settings
    mapfile -t settings < <(broker_env env | grep -E '^(HOME|RABBITMQ_|ERL_EPMD_)')
    start_part rabbitmq env "${settings[@]}" /usr/lib/rabbitmq/bin/rabbitmq-server
}

make_broker_config() {
    if [ -e "$BROKER/rabbitmq.conf" ]; then return; fi
    local password
    (umask 077 && mkdir -p "$BROKER/data")
    password=$(openssl rand -hex 24)
    new_certificate broker /CN=rabbitmq "DNS:localhost,IP:127.0.0.1,IP:$NODE_ADDRESS"
    cp "$PKI/ca.crt" "$STATE/broker-ca.crt"
    chmod 644 "$STATE/broker-ca.crt"
    printf '[rabbitmq_event_exchange, rabbitmq_management].\n' >"$BROKER/enabled_plugins"
    (
        umask 077
        write_definitions "$password"
        printf 'amqp://%s:%s@127.0.0.1:5672/%%2f\n' "$BROKER_USER" "$password" >"$STATE/broker-url"
        printf 'amqp://%s:%s@%s:5672/%%2f\n' "$BROKER_USER" "$password" "$NODE_ADDRESS" >"$STATE/broker-url-pods"
        printf 'amqps://%s:%s@localhost:5671/%%2f\n' "$BROKER_USER" "$password" >"$STATE/broker-url-tls"
    )
    give_to_caller "$STATE"/broker-{url,url-pods,url-tls,ca.crt}
    # guest stays usable from this machine only, which is RabbitMQ's own default.
    cat >"$BROKER/rabbitmq.conf" <<CONF
listeners.tcp.1 = 0.0.0.0:5672
listeners.ssl.1 = 0.0.0.0:5671
ssl_options.cacertfile = $PKI/ca.crt
ssl_options.certfile = $PKI/broker.crt
ssl_options.keyfile = $PKI/broker.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.tcp.ip = 127.0.0.1
management.tcp.port = 15672
load_definitions = $BROKER/definitions.json
log.console.level = warning
CONF
}

write_definitions() {
    local permissions='"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"'
    cat >"$BROKER/definitions.json" <<JSON
{
  "vhosts": [{"name": "/"}],
  "users": [
    {"name": "$BROKER_USER", "password_hash": "$(password_hash "$1")", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""},
    {"name": "guest", "password_hash": "$(password_hash guest)", "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "administrator"}
  ],
  "permissions": [
    {"user": "$BROKER_USER", $permissions},
    {"user": "guest", $permissions}
  ]
}
JSON
}

# password_hash PASSWORD: base64 of a salt of 4 bytes and SHA-256(salt, password).
password_hash() {
    local salt='\x'
    salt+=$(openssl rand -hex 4 | sed -E 's/(..)(..)(..)(..)/\1\\x\2\\x\3\\x\4/')
    # shellcheck disable=SC2059 # the salt is written as escapes
    {
        printf "$salt"
        { printf "$salt"; printf '%s' "$1"; } | openssl dgst -sha256 -binary
    } | base64 -w 0
}

# broker_healthy: the broker answers an AMQP greeting with a method frame.
broker_healthy() {
    # shellcheck disable=SC2016
    timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/5672 && printf "AMQP\0\0\11\1" >&3 &&
        [ "$(head -c 1 <&3 | od -An -tu1 | tr -d " ")" = 1 ]'
}
