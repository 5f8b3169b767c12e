#!/bin/sh
# Two phones ring; one is picked up; the other is told that the call was answered elsewhere.
. "$(dirname "$0")/../sipp.sh"

registered bob
registered bob2
in_background bob uas-answers.xml
in_background bob2 uas-cancelled.xml
plays alice uac.xml
await bob
await bob2
