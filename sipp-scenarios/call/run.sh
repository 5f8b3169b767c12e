#!/bin/sh
# A call through the proxy, from the challenge to the hang-up.
. "$(dirname "$0")/../sipp.sh"

registered bob
in_background bob uas.xml
plays alice uac.xml
await bob
