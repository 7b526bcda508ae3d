# What the scripts here share; sourced by them, not run.
#
# Everything they make lies in .localstack of the checkout. Which services run is read from the processes themselves, by
# the folder they were started with, and from no file: a script that was killed at any moment leaves nothing that the next
# can't see.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
state=$root/.localstack
venv=$state/venv
python=${PYTHON:-python3}
me=localstack/$(basename "$0")

# Talk goes to standard error: standard output is for whoever reads it with eval.
say() { printf '%s: %s\n' "$me" "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

[[ -d /proc/self ]] || fail "this needs Linux; elsewhere, compose.yaml beside it may serve"

# Only one of the scripts at a time; the lock goes with the process that holds it.
lock() {
    mkdir -p "$state"
    exec 9>"$state/lock"
    flock --wait 300 9 || fail "another of the scripts has been at work for five minutes"
}

# The programs in wheels, in a virtual environment of their own. Its stamp is written last, so that an install that was cut
# short is done again.
packages() {
    local stamp
    stamp=$({ "$python" --version && cat "$here/requirements.txt"; } | sha256sum | cut -d' ' -f1)
    [[ -f $venv/stamp && $(<"$venv/stamp") == "$stamp" ]] && return
    say "installing the packages of localstack/requirements.txt"
    # What runs from there is of another version, or of an install that was cut short.
    stop_service s3
    rm -rf "$venv" &&
        "$python" -m venv "$venv" >&2 &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: --no-deps \
            --requirement "$here/requirements.txt" >&2 &&
        printf '%s\n' "$stamp" >"$venv/stamp" ||
        fail "the packages of localstack/requirements.txt could not be installed"
}

# processes NAME: the ids of those that are the service, one a line.
processes() {
    local words
    case $1 in
        s3) words="-dir=$state/s3" ;;
        lambda) words="$state/lambda" ;;
    esac
    # The pattern comes by standard input, so that grep's own command line doesn't have it. Processes that end while it
    # looks are no failure.
    { grep --files-with-matches --no-messages --text --fixed-strings --file=- -- /proc/[0-9]*/cmdline <<<"$words" || true; } |
        while IFS=/ read -r _ _ id _; do
            case $1/$(readlink "/proc/$id/exe") in
                s3/*/weed | s3/*/"weed (deleted)") echo "$id" ;;
                lambda/*/lambda-endpoint | lambda/*/"lambda-endpoint (deleted)") echo "$id" ;;
            esac
        done
}

# stop_service NAME [SIGNAL]: ends it, and waits until it has.
stop_service() {
    local ids signal=${2:-TERM} tries=0
    while ids=$(processes "$1") && [[ -n $ids ]]; do
        # After ten seconds no more politeness. One that has ended since it was found is no failure.
        case $tries in
            0) kill -s "$signal" $ids 2>/dev/null || true ;;
            100) kill -s KILL $ids 2>/dev/null || true ;;
            200) fail "$1 doesn't end (processes ${ids//$'\n'/, })" ;;
        esac
        tries=$((tries + 1))
        sleep 0.1
    done
}

# detach LOG COMMAND...: starts it with nothing of this script's: no terminal, no open files, no lock.
detach() {
    local log=$1
    shift
    (
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            ((fd > 2)) && eval "exec $fd>&-"
        done
        exec setsid "$@"
    ) </dev/null >>"$log" 2>&1 &
}

# The ports, from the first `up` on the same: whoever has read the export lines can go on using them. New ones are taken
# only where somebody else has one of them now.
ports() {
    local names=(s3 master filer volume admin lambda) name new
    if [[ -f $state/ports ]]; then
        source "$state/ports"
        local taken=()
        [[ -n $(processes s3) ]] || taken+=($port_s3 $port_master $port_filer $port_volume $port_admin)
        [[ -n $(processes lambda) ]] || taken+=($port_lambda)
        [[ ${#taken[@]} == 0 ]] || "$python" "$here/probe.py" are-free "${taken[@]}" 2>/dev/null && return
        say "somebody else has a port that was ours; taking others"
        stop_service s3
        stop_service lambda
    fi
    new=$("$python" "$here/probe.py" ports ${#names[@]}) || fail "found no free ports"
    for name in "${names[@]}"; do
        read -r port && printf 'port_%s=%d\n' "$name" "$port"
    done <<<"$new" >"$state/ports.new"
    mv "$state/ports.new" "$state/ports"
    source "$state/ports"
}

# What callers need; the same names that the AWS tools have.
variables() {
    access_key=AKIAVOXMILLLOCAL0000
    secret_key=voxmill-local-secret
    region=us-east-1
    function=voxmill:live
    bucket=voxmill-local
    export AWS_ACCESS_KEY_ID=$access_key AWS_SECRET_ACCESS_KEY=$secret_key AWS_REGION=$region
    export AWS_ENDPOINT_URL_S3=http://127.0.0.1:$port_s3 AWS_ENDPOINT_URL_LAMBDA=http://127.0.0.1:$port_lambda
    unset AWS_SESSION_TOKEN
}

start_s3() {
    mkdir -p "$state/s3" "$state/home"
    # It remembers options there, and would prefer those of last time to these.
    rm -f "$state/s3/mini.options"
    cat >"$state/s3.json" <<JSON
{
  "identities": [
    {
      "name": "local",
      "credentials": [{ "accessKey": "$access_key", "secretKey": "$secret_key" }],
      "actions": ["Admin", "Read", "List", "Tagging", "Write"]
    },
    {
      "name": "reader",
      "credentials": [{ "accessKey": "AKIAVOXMILLREADER000", "secretKey": "voxmill-reader-secret" }],
      "actions": ["Read:$bucket", "List:$bucket"]
    }
  ]
}
JSON
    # A home of its own, so that no configuration of the user's is found; a limit for its collector, which it stays well
    # under when it can; small volumes, as each bucket takes several. It answers only this machine, and tells nobody.
    detach "$state/s3.log" env -C "$state/home" -i HOME="$state/home" PATH="$PATH" GOMEMLIMIT=512MiB "$venv/bin/weed" mini \
        "-dir=$state/s3" -ip=127.0.0.1 -ip.bind=127.0.0.1 "-s3.config=$state/s3.json" \
        "-s3.port=$port_s3" -s3.port.iceberg=0 -s3.port.lance=0 -s3.autoCreateBucket=false "-master.port=$port_master" \
        "-filer.port=$port_filer" "-volume.port=$port_volume" "-admin.port=$port_admin" \
        -admin.ui=false -webdav=false -master.telemetry=false -master.volumeSizeLimitMB=512 -volume.max=400
}

# await NAME QUESTION...: starts the service where it doesn't run, and waits for a minute until the question has its answer.
# One that was just about to end when it was looked for is started again; one that ends by itself is not for ever.
await() {
    local name=$1 fault='' starts=0 end=$((SECONDS + 60))
    shift
    while ((SECONDS < end)); do
        if [[ -z $(processes "$name") ]]; then
            ((starts < 3)) || fail "$name ends as soon as it is started: $(tail -n 1 "$state/$name.log") (its log: $state/$name.log)"
            starts=$((starts + 1))
            "start_$name"
        fi
        fault=$("$python" "$here/probe.py" "$@" --seconds 2 2>&1) && return
    done
    fail "$name doesn't answer after a minute: $fault (its log: $state/$name.log)"
}

# Until the store answers and has the bucket; until the endpoint answers and has the function.
await_s3() { await s3 bucket "$bucket"; }
await_lambda() { await lambda function "$function"; }

# Starts the endpoint with the arguments that `up` left.
start_lambda() {
    local arguments
    [[ -f $state/lambda.arguments ]] || fail "there is no function yet: run localstack/up"
    mapfile -t arguments <"$state/lambda.arguments"
    detach "$state/lambda.log" "${arguments[@]}"
}
