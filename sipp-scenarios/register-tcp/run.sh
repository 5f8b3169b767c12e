#!/bin/sh
# REGISTER and its refresh on one TCP connection.
. "$(dirname "$0")/../sipp.sh"

plays alice uac.xml -t t1
