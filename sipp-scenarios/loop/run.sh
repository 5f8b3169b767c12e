#!/bin/sh
# Loops end: 482 for a request that returns, 483 when Max-Forwards is used up.
. "$(dirname "$0")/../sipp.sh"

plays alice max-forwards.xml
registered bob
in_background bob sends-back.xml
plays alice uac.xml
await bob
