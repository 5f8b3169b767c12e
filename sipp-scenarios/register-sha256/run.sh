#!/bin/sh
# REGISTER with SHA-256: offered first, accepted, counted (nc), refused with a wrong password.
. "$(dirname "$0")/../sipp.sh"

python3 "$HERE/uac.py" "$HOST" "$PORT" "$DOMAIN" "$(address_of alice)" alice secret-alice || fail "see the line above"
