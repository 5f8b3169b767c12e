#!/bin/sh
# Loops end: 482 for a request that returns, 483 when Max-Forwards is used up.
. "$(dirname "$0")/../sipp.sh"

plays alice max-forwards.xml
plays bob register-at-server.xml
plays alice uac.xml
