#!/bin/sh
# Messages to a phone that is off: kept, delivered in order when it registers, and once.
. "$(dirname "$0")/../sipp.sh"

for words in first second third; do plays alice uac.xml -key words "the $words"; done

# Bob's phone listens before it registers: sipp cannot do both on one port, so the REGISTER
# comes from his second phone's place and names the first as the contact.
in_background bob uas.xml -m 3
phone bob2 "$HERE/register-other.xml" -key place "$(address_of bob):5060" || fail "bob could not register"
await bob
told=$(messages bob uas.xml | grep -o '^the [a-z]*' | uniq | tr '\n' ' ')
[ "$told" = "the first the second the third " ] || fail "Bob was told: $told"

# Registering again brings nothing again.
in_background bob uas.xml -timeout 3s
phone bob2 "$HERE/register-other.xml" -key place "$(address_of bob):5060" || fail "bob could not register again"
wait "$job_bob" && fail "a message came twice"
exit 0
