#!/bin/sh
# REGISTER by UDP: challenge, answer, query, removal; a wrong password.
. "$(dirname "$0")/../sipp.sh"

plays alice uac.xml
plays bob wrong-password.xml
