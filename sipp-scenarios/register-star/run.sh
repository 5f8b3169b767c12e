#!/bin/sh
# Contact: * removes all bindings, and only with Expires: 0.
. "$(dirname "$0")/../sipp.sh"

plays alice uac.xml
