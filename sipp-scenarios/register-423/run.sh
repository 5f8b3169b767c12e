#!/bin/sh
# Expires under a minute is refused with 423, over an hour is shortened.
. "$(dirname "$0")/../sipp.sh"

plays alice uac.xml
