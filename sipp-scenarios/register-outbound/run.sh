#!/bin/sh
# RFC 5626: a binding is a flow; requests come down the connection that registered it.
. "$(dirname "$0")/../sipp.sh"

# The contact is an address nobody can reach (RFC 5737 §3), so only the connection can carry the message.
in_background bob uac.xml -t t1 -oocsf "$HERE/receive.xml"
sleep 1
plays alice "$HERE/../message-offline-replay/uac.xml" -key words "down the flow"
await bob
messages bob uac.xml | grep -q 'down the flow' || fail "the message did not come down the connection"
