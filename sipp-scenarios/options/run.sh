#!/bin/sh
# OPTIONS to the server itself.
. "$(dirname "$0")/../sipp.sh"

plays alice uac.xml
