#!/bin/sh
# Messages to a phone that is off: kept, delivered in order when it registers, and once.
. "$(dirname "$0")/../sipp.sh"

for words in first second third; do plays alice uac.xml -key words "the $words"; done

# A retransmission that crossed the 200 counts once.
heard() { messages bob switch-on.xml | grep -o '^the [a-z]*' | uniq | tr '\n' ' '; }

plays bob switch-on.xml -oocsf "$HERE/uas.xml"
told=$(heard)
[ "$told" = "the first the second the third " ] || fail "Bob was told: $told"

# Switched on again, it hears nothing again.
plays bob switch-on.xml -oocsf "$HERE/uas.xml"
told=$(heard)
[ -z "$told" ] || fail "Bob was told again: $told"
