# Sourced by every run.sh: phones with sipp, on loopback addresses of their own.
#
# A phone is a name with a place: alice, bob, bob2 (Bob's second phone) and carol live at
# NET.11 to NET.14, port 5060, where NET is the first three parts of HOST (or is set).
# The digest user is the name without its number, the password is secret-USER.

set -u
HOST=${1:?usage: run.sh HOST PORT [DOMAIN]}
PORT=${2:?usage: run.sh HOST PORT [DOMAIN]}
DOMAIN=${3:-example.test}
NET=${NET:-${HOST%.*}}
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${OUT:-$(mktemp -d)}
mkdir -p "$OUT"
running=

address_of() {
    case $1 in
    alice) echo "$NET.11" ;;
    bob) echo "$NET.12" ;;
    bob2) echo "$NET.13" ;;
    carol) echo "$NET.14" ;;
    *) echo "no such phone: $1" >&2; exit 2 ;;
    esac
}

user_of() { echo "${1%2}"; }

fail() {
    echo "FAIL: $*" >&2
    for log in "$OUT"/*.errors; do
        if [ -s "$log" ]; then echo "--- ${log##*/}"; cut -c1-300 "$log" | tail -n 20; fi >&2
    done
    stop_phones
    exit 1
}

# phone NAME FILE.xml [OPTION…] plays one scenario once and waits for its end.
# Its messages are kept in $OUT/NAME-FILE.messages.
phone() {
    name=$1; file=$2; shift 2
    scenario=$(basename "$file" .xml); user=$(user_of "$name"); log=$OUT/$name-$scenario
    case $file in */*) ;; *) file=$HERE/$file ;; esac
    sipp "$HOST:$PORT" -sf "$file" -i "$(address_of "$name")" -mi "$(address_of "$name")" -p 5060 -m 1 -nostdin \
        -timeout 25s -timeout_error -recv_timeout 12000 -default_behaviors all,-bye \
        -au "$user" -ap "secret-$user" -s bob \
        -key domain "$DOMAIN" -key user "$user" \
        -trace_msg -message_file "$log.messages" -trace_err -error_file "$log.errors" "$@" \
        >"$log.screen" 2>&1
}

# plays NAME FILE.xml [OPTION…] is phone, or the end of the run.
plays() { phone "$@" || fail "$1 in ${2##*/}"; }

# in_background NAME FILE.xml [OPTION…] starts a phone that is collected by await NAME.
in_background() {
    phone "$@" &
    eval "job_$1=$!"
    running="$running $!"
    address=$(address_of "$1")
    tries=0
    until is_bound "$address"; do
        tries=$((tries + 1))
        if [ "$tries" -gt 250 ]; then fail "$1 did not open its port"; fi
        sleep 0.02
    done
}

# is_bound ADDRESS says whether a UDP or TCP socket has port 5060 there (/proc/net writes addresses backwards).
is_bound() {
    place=$(echo "$1" | awk -F. '{ printf "%02X%02X%02X%02X:13C4", $4, $3, $2, $1 }')
    grep -q " $place " /proc/net/udp /proc/net/tcp
}

await() {
    eval "job=\$job_$1"
    wait "$job" || fail "$1 did not see what it was to see"
}

stop_phones() {
    for job in $running; do
        # the job is a shell whose child is sipp
        for child in $(ps -o pid= --ppid "$job" 2>/dev/null) "$job"; do kill "$child" 2>/dev/null; done
    done
    running=
}

# registered NAME [TRANSPORT] makes the phone reachable at its place.
registered() {
    phone "$1" "$HERE/../register.xml" -t "${2:-u1}" || fail "$1 could not register"
}

# messages NAME FILE.xml prints what that phone received and sent.
messages() { cat "$OUT/$1-$(basename "$2" .xml).messages"; }
