#!/bin/sh
# A 302 goes back to the caller, who follows it.
. "$(dirname "$0")/../sipp.sh"

registered bob
registered carol
in_background bob uas-redirects.xml
in_background carol uas-answers.xml
plays alice uac.xml
await bob
await carol
