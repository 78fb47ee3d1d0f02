#!/bin/sh
# Hands a bundle over to `airlock receive --listen http(s)://...` with nothing but curl and sha256sum.
#
#   put-bundle.sh BUNDLE URL [curl options, such as --proxy http://proxy:3128 --proxy-user USER --limit-rate 10M]
#
# Manifest and signatures go first: nothing else is taken before they are believed. The last answer says what came of it.
set -eu
bundle=$1 url=${2%/}
shift 2
cd "$bundle"
name=$(sha256sum AIRLOCK.json | cut -c1-64)
put() { curl --silent --show-error --fail-with-body "$@"; }
for path in AIRLOCK.json ROOT.json AIRLOCK.sig; do
    [ ! -e "$path" ] || put "$@" --upload-file "$path" "$url/$name/$path" >/dev/null
done
find README.txt ROOT.json objects files -type f 2>/dev/null | while read -r path; do
    put "$@" --upload-file "$path" "$url/$name/$path" >/dev/null
done
put "$@" --upload-file AIRLOCK.sig "$url/$name/AIRLOCK.sig"
