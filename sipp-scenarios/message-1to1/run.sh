#!/bin/sh
# A MESSAGE from one to one.
. "$(dirname "$0")/../sipp.sh"

registered bob
in_background bob uas.xml
plays alice uac.xml
await bob
